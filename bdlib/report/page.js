"use strict";
// A click on a heading sorts its table; the box at the top keeps the rows that hold all its words.
function sort(head, column) {
  const body = head.closest("table").tBodies[0], up = head.getAttribute("aria-sort") !== "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = (row) => row.cells[column].textContent.trim();
  const order = (a, b) => {
    const [x, y] = [parseFloat(a), parseFloat(b)];
    // What has no number stands last, whichever way numbers go.
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return (up ? 1 : -1) * (Number.isNaN(x) ? a.localeCompare(b) : x - y);
  };
  body.append(...[...body.rows].sort((a, b) => order(key(a), key(b))));
}
for (const table of document.querySelectorAll("table")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head, column));
    head.append(button);
  });
}
const find = Object.assign(document.createElement("input"), { type: "search", placeholder: "find a model, a defense, an attack" });
find.setAttribute("aria-label", "keep rows with these words");
document.querySelector("nav").before(find);
find.addEventListener("input", () => {
  const words = find.value.toLowerCase().split(/\s+/);
  const has = (text) => words.every((word) => text.toLowerCase().includes(word));
  for (const section of document.querySelectorAll("section")) {
    const title = section.querySelector("h3").textContent, rows = [...section.querySelectorAll("tbody tr")];
    for (const row of rows) row.hidden = !has(`${title} ${row.textContent}`);
    section.hidden = rows.length > 0 && rows.every((row) => row.hidden);
  }
});
