/* The pages for visitors: their forms work by themselves, and page.js fills in the browser's time zone. */

import {startPage} from "./page.js";

startPage(async () => {});
