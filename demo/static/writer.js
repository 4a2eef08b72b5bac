// Appends an answer to an element as it arrives: one text node per token, styled line by line. The element's text
// stays exactly the answer's text, and the cost of a token does not grow with the length of the answer.

const KINDS = [
  [/^```/, "fence"],
  [/^#{1,6} /, "heading"],
  [/^\s*([-*]|\d+\.) /, "item"],
  [/^\|/, "row"],
];

export class Writer {
  constructor(element) {
    this.element = element;
    this.inCode = false;
  }

  write(text) {
    for (const piece of text.split(/(?<=\n)/)) this.append(piece);
  }

  append(piece) {
    this.line ??= this.newLine();
    this.line.append(piece);
    if (this.start.length < 8) this.classify(piece);
    if (piece.endsWith("\n")) this.endLine();
  }

  newLine() {
    this.start = "";
    const line = document.createElement("span");
    line.className = this.inCode ? "line code" : "line";
    this.element.append(line);
    return line;
  }

  // The first few characters of a line determine its kind.
  classify(piece) {
    this.start += piece;
    const kind = KINDS.find(([pattern]) => pattern.test(this.start))?.[1];
    if (kind && (!this.inCode || kind === "fence")) this.line.classList.add(kind);
  }

  endLine() {
    if (this.line.classList.contains("fence")) this.inCode = !this.inCode;
    this.line = null;
  }
}
