// Light or dark: as the system, until the button is pressed.

const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

export function addThemeButton(button) {
  function apply(chosen) {
    if (chosen) {
      document.documentElement.dataset.theme = chosen;
      localStorage.setItem("theme", chosen);
    }
    button.setAttribute("aria-pressed", isDark());
  }
  apply(localStorage.getItem("theme"));
  system.addEventListener("change", () => apply());
  button.addEventListener("click", () => apply(isDark() ? "light" : "dark"));
}
