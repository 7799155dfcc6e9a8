// Search for airports as one types: pure functions of the index of airports and the query.
//
// The index lists the best known airports first (domain/airport_index.py). A match has a class, from exact codes to
// words with two typing errors; within a class the index's order stands, so "London" is Heathrow first.

const CLASS = {code: 0, prefix: 1, codePrefix: 2, wordPrefix: 3, mistyped: 4};

// With fewer matches than these, and no well-known one, what was typed may be mistyped.
const FEW = 3;

// Letters that Unicode does not take apart into a letter and a mark.
const LETTERS = {
  ß: "ss", æ: "ae", œ: "oe", ø: "o", ł: "l", đ: "d", ð: "d", þ: "th", ı: "i", ħ: "h", ŋ: "n",
};

const IS_ASCII = /^[\0-\x7f]*$/;

/** Return a text as it is compared: lower case, without marks, words of letters and digits with one blank between. */
export function fold(text) {
  if (IS_ASCII.test(text)) return text.toLowerCase().replace(/[^a-z0-9]+/g, " ").trim(); // most names, in a tenth of the time
  return text
    .normalize("NFD")
    .toLowerCase()
    .replace(/\p{M}/gu, "")
    .replace(/[ßæœøłđðþıħŋ]/g, (letter) => LETTERS[letter])
    .replace(/[^\p{L}\p{N}]+/gu, " ")
    .trim();
}

/** Return what is searched in, from the index of airports as it is served (by column). */
export function prepareIndex(columns) {
  const entries = columns.icao.map((icao, place) => {
    const city = fold(columns.city[place]);
    const name = fold(columns.name[place]);
    const codes = [icao.toLowerCase(), columns.iata[place].toLowerCase()].filter(Boolean);
    return {
      place,
      isLarge: place < columns.large,
      icao,
      iata: columns.iata[place],
      name: columns.name[place],
      city: columns.city[place],
      country: columns.country[place],
      timeZone: columns.zones[columns.zone[place]],
      codes,
      beginnings: [city, name],
      words: [...new Set(`${city} ${name}`.split(" ").filter(Boolean))],
    };
  });
  const letters = new Map();
  for (const {words} of entries) for (const word of words) letters.set(word, collectLetters(word));
  return {entries, letters};
}

/** Return up to `limit` airports for what was typed, the likeliest first; none for a query without a letter. */
export function searchAirports({entries, letters}, typed, limit = 8) {
  const query = fold(typed).slice(0, 60);
  if (!query) return [];
  const tokens = query.split(" ").slice(0, 6);
  const found = [];
  for (const entry of entries) {
    const rank = rankEntry(entry, query, tokens);
    if (rank !== null) found.push({entry, rank});
  }
  const isPlain = found.some(({entry, rank}) => entry.isLarge || rank === CLASS.code);
  if (found.length < FEW && !isPlain) {
    const known = new Set(found.map((each) => each.entry));
    const similar = tokens.map((token) => findSimilarWords(token, letters));
    for (const entry of entries) {
      const edits = known.has(entry) ? null : countEdits(entry, tokens, similar);
      if (edits !== null) found.push({entry, rank: CLASS.mistyped + edits});
    }
  }
  // The sort is stable: within a class the best known come first.
  return found.sort((one, other) => one.rank - other.rank).slice(0, limit).map((each) => each.entry);
}

/** Return the class of a match without typing errors; null: it is none. */
function rankEntry(entry, query, tokens) {
  if (entry.codes.includes(query)) return CLASS.code;
  const isMatch = tokens.every(
    (token) => entry.words.some((word) => word.startsWith(token)) || entry.codes.includes(token),
  );
  // Two letters begin a thousand codes: with them words are meant.
  if (!isMatch) return query.length >= 3 && entry.codes.some((code) => code.startsWith(query)) ? CLASS.codePrefix : null;
  // A large airport is meant by any of its words: "kenn" is Kennedy rather than the airfield of Kennett.
  const isBeginning =
    entry.isLarge || entry.beginnings.some((text) => text.startsWith(query));
  return isBeginning ? CLASS.prefix : CLASS.wordPrefix;
}

/** Return how many typing errors make the query of an airport's words; null: too many. */
function countEdits(entry, tokens, similar) {
  let sum = 0;
  for (const [at, token] of tokens.entries()) {
    let fewest = entry.codes.includes(token) ? 0 : Infinity;
    for (const word of entry.words) fewest = Math.min(fewest, similar[at].get(word) ?? Infinity);
    if (fewest === Infinity) return null;
    sum += fewest;
  }
  return sum;
}

/** Return the words that a token may be meant for, each with its number of typing errors. */
function findSimilarWords(token, letters) {
  const allowed = allowEdits(token);
  const wanted = collectLetters(token);
  const similar = new Map();
  for (const [word, present] of letters) {
    // Each letter that a word lacks costs an edit at least: most words need no closer look.
    if (countBits(wanted & ~present) > allowed) continue;
    const edits = countPrefixEdits(token, word, allowed);
    if (edits <= allowed) similar.set(word, edits);
  }
  return similar;
}

/** Return the set of a word's letters a to z as bits. */
function collectLetters(word) {
  let bits = 0;
  for (let at = 0; at < word.length; at += 1) {
    const letter = word.charCodeAt(at) - 97;
    if (letter >= 0 && letter < 26) bits |= 1 << letter;
  }
  return bits;
}

function countBits(bits) {
  let count = 0;
  for (let rest = bits; rest; rest &= rest - 1) count += 1;
  return count;
}

/** Return how many typing errors a word of this length may have. */
function allowEdits(token) {
  if (token.length < 4) return 0;
  return token.length < 7 ? 1 : 2;
}

/**
 * Return the least number of edits that make `token` of a word or of the beginning of a word; `most` + 1: more.
 * An edit inserts, deletes or replaces one letter, or swaps two neighbours (optimal string alignment).
 */
export function countPrefixEdits(token, word, most) {
  const width = Math.min(word.length, token.length + most);
  let beforeLast = null;
  let last = Array.from({length: width + 1}, (_, at) => at);
  for (let row = 1; row <= token.length; row += 1) {
    const next = [row];
    let least = row;
    for (let at = 1; at <= width; at += 1) {
      const same = token[row - 1] === word[at - 1] ? 0 : 1;
      let edits = Math.min(last[at] + 1, next[at - 1] + 1, last[at - 1] + same);
      if (row > 1 && at > 1 && token[row - 1] === word[at - 2] && token[row - 2] === word[at - 1]) {
        edits = Math.min(edits, beforeLast[at - 2] + 1);
      }
      next.push(edits);
      least = Math.min(least, edits);
    }
    if (least > most) return most + 1;
    beforeLast = last;
    last = next;
  }
  return Math.min(most + 1, ...last);
}

/** Return the code if what was typed has the form of an ICAO code that the index may not have; null: it has not. */
export function readCode(typed) {
  const code = typed.trim().toUpperCase();
  return /^[A-Z0-9]{4}$/.test(code) ? code : null;
}
