// Applies the light or dark theme before the first paint: a classic script in the head, not a module.
// "chesboard-theme" in localStorage is "light" or "dark"; without it the system's preference holds.
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
    document.querySelector("[data-theme-toggle]")?.setAttribute("aria-pressed", String(theme === "dark"));
    document.dispatchEvent(new CustomEvent("themechange"));
  }
  function toggle() {
    const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      /* storage is disabled: the choice holds for this page only */
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
