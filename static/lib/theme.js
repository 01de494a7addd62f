// A classic script in the head: the theme stands before the first paint.
// "chesboard-theme" in localStorage is "light" or "dark"; absent, the system decides.
(() => {
  const KEY = "chesboard-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null;
    }
  };
  function apply() {
    const theme = stored() ?? (system.matches ? "dark" : "light");
    document.documentElement.dataset.theme = theme;
    document.querySelector("[data-theme-toggle]")?.setAttribute("aria-pressed", theme === "dark");
    document.dispatchEvent(new CustomEvent("themechange"));
  }
  function toggle() {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      /* it holds for this page only */
    }
    document.documentElement.dataset.theme = theme;
    apply();
  }
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", (event) => event.key === KEY && apply());
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.querySelector("[data-theme-toggle]")?.addEventListener("click", toggle);
  });
})();
