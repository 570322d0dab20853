// The state of the page is in the fragment of its address, so that a link shows what its sender saw.

/** What the fragment says: {x: "kept_macs", run: "gated-0.5-s9"}; empty for an anchor of the page. */
function readAddress() {
  const text = location.hash.slice(1);
  return text.includes("=") ? Object.fromEntries(new URLSearchParams(text)) : {};
}

/** Write it; `visit` makes an entry that "Back" leads out of. What is undefined is left out. */
function writeAddress(state, visit = false) {
  const known = Object.entries(state).filter(([, value]) => value !== undefined && value !== "");
  const text = new URLSearchParams(known).toString();
  const target = `${location.pathname}${location.search}${text ? `#${text}` : ""}`;
  if (visit) history.pushState(null, "", target);
  else history.replaceState(null, "", target);
}
