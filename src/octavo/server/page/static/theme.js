// Runs before the page is painted, so that a theme that was chosen does not flash.
(() => {
  let chosen = null;
  try {
    chosen = localStorage.getItem("octavo.theme");
  } catch {
    // storage may be forbidden; the system's choice stands
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
