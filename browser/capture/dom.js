// Reads the page: whether an element can be seen, and what the newest answer says.
// Evaluates to an object of functions; hook.js and the child's own evaluations share it.
(() => {
  const visible = (element) => element.checkVisibility
    ? element.checkVisibility({ visibilityProperty: true })
    : element.getClientRects().length > 0;
  const seen = (selector) => Array.prototype.some.call(document.querySelectorAll(selector), visible);
  const count = (selector) => Array.prototype.filter.call(document.querySelectorAll(selector), visible).length;

  // For Markdown the child gets the HTML and converts it. What only a style sheet makes bold, italic or struck through
  // is marked in the HTML, where it could not be seen otherwise.
  const STYLES = [
    ["strong", (style) => style.fontWeight >= 600],
    ["em", (style) => style.fontStyle === "italic"],
    ["del", (style) => style.textDecorationLine.includes("line-through")],
  ];
  const markOf = (span) => {
    const [own, around] = [getComputedStyle(span), getComputedStyle(span.parentElement)];
    const style = STYLES.find(([, holds]) => holds(own) && !holds(around));
    return style ? style[0] : "";
  };
  const htmlOf = (element, dom) => {
    if (!element.textContent.trim() && !element.querySelector("img")) return "";
    const copy = element.cloneNode(true);
    const spans = element.querySelectorAll("span");
    copy.querySelectorAll("span").forEach((span, index) => { span.dataset.drawn = markOf(spans[index]); });
    if (dom.ignore) copy.querySelectorAll(dom.ignore).forEach((ignored) => ignored.remove());
    return copy.innerHTML;
  };

  const textOf = (element, dom) => {
    if (dom.read === "markdown") return htmlOf(element, dom);
    if (dom.read === "rendered") return element.innerText;
    if (!dom.ignore) return element.textContent;
    let text = "";
    const walker = document.createTreeWalker(element, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) =>
      node.nodeType === Node.ELEMENT_NODE && node.matches(dom.ignore)
        ? NodeFilter.FILTER_REJECT
        : NodeFilter.FILTER_ACCEPT);
    while (walker.nextNode()) if (walker.currentNode.nodeType === Node.TEXT_NODE) text += walker.currentNode.data;
    return text;
  };

  // The text of the first visible error message that is not empty, or null.
  const errorOf = (selector) => {
    const says = (element) => visible(element) && element.textContent.trim();
    const element = selector && Array.prototype.find.call(document.querySelectorAll(selector), says);
    return element ? element.textContent.trim().slice(0, 1000) : null;
  };

  // Whether an element ends before another one begins.
  const isBefore = (element, other) => element !== other && !element.contains(other)
    && Boolean(element.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING);

  // Whether an element says that the newest answer is complete. In a conversation that had answers before it there
  // may be one of each of them: what stands among those says nothing of this one.
  const isDone = (dom, all) => dom.done && Array.prototype.some.call(document.querySelectorAll(dom.done), (mark) =>
    !dom.baseline || all.length <= dom.baseline || isBefore(mark, all[0]) || !isBefore(mark, all[dom.baseline]));

  // The newest reasoning, or null while there is no more of it than before this answer.
  const reasoningOf = (dom) => {
    const all = dom.reasoning ? document.querySelectorAll(dom.reasoning) : [];
    if (all.length <= dom.reasoning_baseline) return null;
    const newest = all[all.length - 1];
    return dom.read === "text" ? newest.textContent : newest.innerText;
  };

  // What the newest answer shows now. `text`, or its HTML, is null while there are no more answers than dom.baseline.
  const answer = (dom) => {
    const all = document.querySelectorAll(dom.answer);
    return {
      text: all.length > dom.baseline ? textOf(all[all.length - 1], dom) : null,
      done: Boolean(isDone(dom, all)),
      busy: Boolean(dom.busy && seen(dom.busy)),
      error: errorOf(dom.error),
      reasoning: reasoningOf(dom),
    };
  };

  // The text in an editor. In a contenteditable each block is a line, and a <br> that only fills an empty block is none.
  const lineOf = (block) => {
    let text = "";
    const walker = document.createTreeWalker(block, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const node = walker.currentNode;
      if (node.nodeType === Node.TEXT_NODE) text += node.data;
      else if (node.tagName === "BR") text += "\n";
    }
    return block.lastChild && block.lastChild.nodeName === "BR" ? text.slice(0, -1) : text;
  };
  const BLOCKS = new Set(["P", "DIV", "LI", "PRE"]);
  const typed = (element) => {
    if ("value" in element) return element.value;
    const lines = [];
    let loose = null;
    for (const node of element.childNodes) {
      if (BLOCKS.has(node.nodeName)) {
        lines.push(lineOf(node));
        loose = null;
        continue;
      }
      if (loose === null) loose = lines.push("") - 1;
      lines[loose] += node.nodeName === "BR" ? "\n" : node.textContent;
    }
    const text = lines.join("\n");
    const last = element.lastChild;
    return last && last.nodeName === "BR" ? text.slice(0, -1) : text;
  };

  return { visible, seen, count, errorOf, answer, typed };
})()
