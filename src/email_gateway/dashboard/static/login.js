// Logs in with a one-time link: its token stands in the fragment, which no server and no log ever sees.
"use strict";

function redeem() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  const form = document.getElementById("link-form");
  history.replaceState(null, "", location.pathname); // out of the address bar and the history
  document.getElementById("key-form").hidden = true;
  form.hidden = false;
  form.elements.token.value = token;
  form.submit();
}

redeem();
// A link pasted where the login stands already changes the fragment only.
window.addEventListener("hashchange", redeem);
