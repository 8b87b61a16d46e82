// Set the equations that Markdown marked: KaTeX is in this folder, so that no network is needed.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const tex = element.textContent.replace(/^\\[([]|\\[)\]]$/g, "");
    katex.render(tex, element, { displayMode: element.tagName === "DIV" });
  }
});
