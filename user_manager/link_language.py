"""The language in which the page behind a link of a mail opens."""


def add_language(url: str, language: str) -> str:
    """Return a link of a mail with the language in which its page opens: "…/stop/abc?language=it".

    `language`: its tag; empty: the page opens in the browser's language. The empty link, and any without a language,
    stays as it is. The signature of a link is in its path, which does not change.
    """
    if not url or not language:
        return url
    return f"{url}{'&' if '?' in url else '?'}language={language}"
