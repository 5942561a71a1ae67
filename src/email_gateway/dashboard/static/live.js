// Keeps [data-live] regions fresh: asks for the fragment every data-every milliseconds while the page is seen.
"use strict";

const LONGEST_WAIT = 15000;
const state = document.querySelector("[data-live-state]");

function show(isLive) {
  if (!state) return;
  state.classList.toggle("is-away", !isLive);
  state.querySelector("[data-live-word]").textContent = isLive ? "Live" : "Waiting for the gateway";
}

function keys(region) {
  return new Set([...region.querySelectorAll("[data-key]")].map((row) => row.dataset.key));
}

// The fragment comes from our own server with every value escaped, and the page's policy runs no inline script.
function replace(region, html) {
  const known = keys(region);
  const open = new Set([...region.querySelectorAll("details[open]")].map((box) => box.id));
  const scrolled = new Map([...region.querySelectorAll(".scroll")].map((box, i) => [i, [box.scrollLeft, box.scrollTop]]));
  const focused = region.contains(document.activeElement) ? document.activeElement : null;
  const address = focused && focused.getAttribute("href");
  const fresh = new DOMParser().parseFromString(html, "text/html");
  region.replaceChildren(...fresh.body.childNodes);
  for (const box of region.querySelectorAll("details")) box.open = open.has(box.id);
  region.querySelectorAll(".scroll").forEach((box, i) => scrolled.has(i) && box.scrollTo(...scrolled.get(i)));
  for (const row of region.querySelectorAll("[data-key]")) {
    if (!known.has(row.dataset.key)) row.classList.add("is-new");
  }
  if (address) {
    const again = [...region.querySelectorAll("a")].find((link) => link.getAttribute("href") === address);
    if (again) again.focus({ preventScroll: true });
  }
}

// Replacing the text someone is selecting or has her hand on would take it away from under her.
function isBusy(region) {
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && region.contains(selection.anchorNode));
}

async function ask(region) {
  const headers = region.dataset.etag ? { "If-None-Match": region.dataset.etag } : {};
  const signal = AbortSignal.timeout(10000);
  const answer = await fetch(region.dataset.live, { headers, redirect: "manual", cache: "no-store", signal });
  if (answer.type === "opaqueredirect") {
    location.reload(); // the session has ended: the page itself leads to the login
    return;
  }
  if (answer.status === 304) return;
  if (!answer.ok) throw new Error("not now");
  const html = await answer.text();
  if (isBusy(region)) return;
  region.dataset.etag = answer.headers.get("ETag") || "";
  replace(region, html);
}

function watch(region) {
  const every = Number(region.dataset.every);
  let wait = every;
  let timer = 0;
  async function turn() {
    try {
      await ask(region);
      wait = every;
      show(true);
    } catch {
      wait = Math.min(wait * 2, LONGEST_WAIT);
      show(false);
    }
    if (!document.hidden) timer = setTimeout(turn, wait);
  }
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (!document.hidden) turn();
  });
  timer = setTimeout(turn, every);
}

document.querySelectorAll("[data-live]").forEach(watch);
