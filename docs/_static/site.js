addEventListener("load", () => {
  // What scrolls sideways can be reached by the keyboard.
  for (const box of document.querySelectorAll(".table-wrapper, pre")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0
  }
  // Sphinx says that these are headings, and not of which level.
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.ariaLevel = "2"
})
