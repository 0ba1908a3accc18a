// Sets the chosen theme before anything is painted; a plain script, so that it runs at once.
"use strict";
(function () {
  let theme = "auto";
  try {
    theme = localStorage.getItem("solomonic.theme") || "auto";
  } catch {
    // Storage is off: follow the system.
  }
  document.documentElement.dataset.theme = theme;
})();
