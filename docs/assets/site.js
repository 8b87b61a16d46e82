// What Markdown cannot say: equations are set by KaTeX, which lies in this folder, so that no
// network is needed; a short cell of a table, such as "1.04 ± 0.03", stays on one line; a figure of
// two panels keeps its size on a phone.
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll(".arithmatex")) {
    const tex = element.textContent.replace(/^\\[([]|\\[)\]]$/g, "");
    katex.render(tex, element, { displayMode: element.tagName === "DIV" });
  }
  for (const cell of document.querySelectorAll(".md-typeset table td")) {
    const length = cell.textContent.length;
    cell.classList.add(length < 25 ? "short" : length > 60 ? "long" : "middle");
  }
});
window.addEventListener("load", () => {
  for (const image of document.querySelectorAll(".md-typeset p > img")) {
    if (image.naturalWidth > 1.6 * image.naturalHeight) image.classList.add("panels");
  }
});
