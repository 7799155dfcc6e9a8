import {requireAccount, startPage} from "./page.js";

startPage(async (context) => {
  requireAccount(context);
});
