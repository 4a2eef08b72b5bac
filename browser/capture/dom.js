// Reads the page: whether an element can be seen, and what the newest answer says.
// A function that makes an object of functions; hook.js and the child's own evaluations share it. What looks for elements
// takes paths (browser/site/selectors.py), and `mayHaveRoots` says whether a look at shadow roots can be left out.
((mayHaveRoots = () => true) => {
  const visible = (element) => element.checkVisibility
    ? element.checkVisibility({ visibilityProperty: true })
    : element.getClientRects().length > 0;

  // The open shadow roots below a document or root, at any depth; those of a document are found once for a look. A walk
  // takes a tenth of the time that a list of all elements does.
  const rootsIn = (root, found = []) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_ELEMENT);
    for (let element; (element = walker.nextNode()); ) {
      if (!element.shadowRoot) continue;
      found.push(element.shadowRoot);
      rootsIn(element.shadowRoot, found);
    }
    return found;
  };
  const known = new Map();
  const rootsOf = (page) => {
    if (!known.has(page)) known.set(page, mayHaveRoots() ? rootsIn(page) : []);
    return known.get(page);
  };

  // Whether an element matches a chain of compound selectors, across shadow roots as in Playwright's CSS.
  const parentOf = (element) => element.parentElement || element.getRootNode().host;
  const fits = (element, chain, at = 0) => {
    const [compound, combinator] = chain[at];
    if (!element.matches(compound)) return false;
    if (at + 1 === chain.length) return true;
    const next = "+~".includes(combinator) ? (from) => from.previousElementSibling : parentOf;
    for (let other = next(element); other; other = next(other)) {
      if (fits(other, chain, at + 1)) return true;
      if (combinator === ">" || combinator === "+") return false;
    }
    return false;
  };

  // An element after the hosts that it is in; and the order of two elements in the page, as compareDocumentPosition has
  // it within one root.
  const withHosts = (element) => {
    const line = [element];
    for (let host; (host = line[0].getRootNode().host); ) line.unshift(host);
    return line;
  };
  const order = (one, other) => {
    const [a, b] = [withHosts(one), withHosts(other)];
    let at = 0;
    while (a[at] === b[at] && at + 1 < Math.min(a.length, b.length)) at++;
    if (a[at] === b[at]) return a.length - b.length;
    return a[at].compareDocumentPosition(b[at]) & Node.DOCUMENT_POSITION_FOLLOWING ? -1 : 1;
  };

  const findIn = (page, { css, chains }) => {
    const plain = page.querySelectorAll(css);
    const roots = rootsOf(page);
    if (!roots.length) return plain;
    const found = new Set(plain);
    for (const chain of chains) {
      for (const root of roots) {
        for (const element of root.querySelectorAll(chain[0][0])) if (fits(element, chain)) found.add(element);
      }
    }
    return [...found].sort(order);
  };
  // The document that a path leads into; null if there is no such frame, or one that cannot be looked into.
  const documentOf = (path) =>
    path.slice(0, -1).reduce((page, frame) => (page && findIn(page, frame)[0]?.contentDocument) || null, document);
  const findAll = (path) => {
    const page = path && documentOf(path);
    return page ? findIn(page, path[path.length - 1]) : [];
  };
  const seen = (path) => Array.prototype.some.call(findAll(path), visible);
  const count = (path) => Array.prototype.filter.call(findAll(path), visible).length;
  // Where something that the paths find may change: documents and shadow roots.
  const placesOf = (paths) => {
    const pages = new Set([document, ...paths.filter(Boolean).map(documentOf).filter(Boolean)]);
    return [...pages].flatMap((page) => [page, ...rootsOf(page)]);
  };

  // An answer may hold web components: what an element shows is its shadow root in place of its children, and in that what
  // fills a slot in place of the slot. `textContent` and `innerText` know nothing of it.
  const isComposed = (element) => {
    const roots = rootsOf(element.ownerDocument);
    if (!roots.length) return false;
    const slotted = element.getRootNode().host && (element.nodeName === "SLOT" || element.querySelector("slot"));
    return Boolean(slotted) || roots.some((root) => element.contains(root.host));
  };
  const SILENT = new Set(["SCRIPT", "STYLE", "TEMPLATE"]);
  const childrenOf = (element) => {
    const { shadowRoot } = element;
    if (shadowRoot) return Array.prototype.filter.call(shadowRoot.childNodes, (node) => !SILENT.has(node.nodeName));
    const filling = element.nodeName === "SLOT" ? element.assignedNodes() : [];
    return filling.length ? filling : [...element.childNodes];
  };
  const isBlock = (element) => !/^(inline|contents|none|ruby)/.test(getComputedStyle(element).display);

  // A copy of what an element shows, in a document without scripts: a clone here would run the components' own code. A
  // component becomes a block or a span, as it is drawn.
  let inert = null;
  const flat = (node, drawn = false) => {
    inert ||= document.implementation.createHTMLDocument("");
    if (node.nodeType !== Node.ELEMENT_NODE) return inert.importNode(node);
    const isComponent = node.shadowRoot || node.nodeName === "SLOT";
    const copy = isComponent ? inert.createElement(isBlock(node) ? "div" : "span") : inert.importNode(node);
    if (isComponent) for (const { name, value } of node.attributes) copy.setAttribute(name, value);
    if (drawn && node.nodeName === "SPAN") copy.dataset.drawn = markOf(node);
    copy.append(...childrenOf(node).map((child) => flat(child, drawn)));
    return copy;
  };
  const laidOut = (element) => (isComposed(element) ? flat(element) : element);
  const plainOf = (element) => laidOut(element).textContent;

  // `innerText`, with what components show: blocks are lines of their own, and white space counts as it is drawn.
  const shownOf = (element) => {
    if (!isComposed(element)) return element.innerText;
    let text = "";
    const breakLine = () => { if (text && !text.endsWith("\n")) text = `${text.replace(/ $/, "")}\n`; };
    const show = (node, around) => {
      if (node.nodeType === Node.TEXT_NODE) {
        const kept = getComputedStyle(around).whiteSpace.startsWith("pre");
        const piece = kept ? node.data : node.data.replace(/\s+/g, " ");
        text += !kept && (!text || /\s$/.test(text)) ? piece.trimStart() : piece;
      } else if (node.nodeName === "BR") text += "\n";
      else if (node.nodeType === Node.ELEMENT_NODE && (visible(node) || getComputedStyle(node).display === "contents")) {
        const block = isBlock(node);
        if (block) breakLine();
        if (isComposed(node)) childrenOf(node).forEach((child) => show(child, node));
        else text += node.innerText;
        if (block) breakLine();
      }
    };
    show(element);
    return text.trimEnd();
  };

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
    const composed = isComposed(element);
    const copy = composed ? flat(element, true) : element.cloneNode(true);
    if (!copy.textContent.trim() && !element.querySelector("img")) return "";
    const spans = composed ? [] : element.querySelectorAll("span");
    const copies = copy.querySelectorAll("span");
    spans.forEach((span, index) => { copies[index].dataset.drawn = markOf(span); });
    if (dom.ignore) copy.querySelectorAll(dom.ignore).forEach((ignored) => ignored.remove());
    return copy.innerHTML;
  };

  const textOf = (element, dom) => {
    if (dom.read === "markdown") return htmlOf(element, dom);
    if (dom.read === "rendered") return shownOf(element);
    const shown = laidOut(element);
    if (!dom.ignore) return shown.textContent;
    let text = "";
    const walker = document.createTreeWalker(shown, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT, (node) =>
      node.nodeType === Node.ELEMENT_NODE && node.matches(dom.ignore)
        ? NodeFilter.FILTER_REJECT
        : NodeFilter.FILTER_ACCEPT);
    while (walker.nextNode()) if (walker.currentNode.nodeType === Node.TEXT_NODE) text += walker.currentNode.data;
    return text;
  };

  // The text of the first visible error message that is not empty, or null. Half a surrogate pair, of the page's or of
  // the cut, is replaced: ways to the child differ in what becomes of it.
  const errorOf = (path) => {
    for (const element of findAll(path)) {
      const text = visible(element) && plainOf(element).trim();
      if (text) return text.slice(0, 1000).replace(/\p{Surrogate}/gu, "\ufffd");
    }
    return null;
  };

  // What one look at the page finds: a `browser.page.tab.PageSnapshot`.
  const look = (wish) => {
    known.clear();
    const holds = (marker) =>
      (!marker.selector || seen(marker.selector)) && (!marker.url || new RegExp(marker.url).test(location.href));
    return {
      logged_in: wish.logged_in.some(holds),
      logged_out: wish.logged_out.some(holds),
      ready: !wish.ready || seen(wish.ready),
      answers: findAll(wish.answer).length,
      attached: count(wish.attached),
      answering: seen(wish.answering),
      error: errorOf(wish.error),
    };
  };

  // Whether an element ends before another one begins.
  const isBefore = (element, other) =>
    order(element, other) < 0 && !withHosts(other).some((host) => element.contains(host));

  // Whether an element says that the newest answer is complete. In a conversation that had answers before it there
  // may be one of each of them: what stands among those says nothing of this one.
  const isDone = (dom, all) => Array.prototype.some.call(findAll(dom.done), (mark) =>
    !dom.baseline || all.length <= dom.baseline || isBefore(mark, all[0]) || !isBefore(mark, all[dom.baseline]));

  // The newest reasoning, or null while there is no more of it than before this answer.
  const reasoningOf = (dom) => {
    const all = findAll(dom.reasoning);
    if (all.length <= dom.reasoning_baseline) return null;
    const newest = all[all.length - 1];
    return dom.read === "text" ? plainOf(newest) : shownOf(newest);
  };

  // What the newest answer shows now. `text`, or its HTML, is null while there are no more answers than dom.baseline; while
  // something is `loading`, a part of it is missing.
  const answer = (dom) => {
    known.clear();
    const all = findAll(dom.answer);
    const isLoading = seen(dom.loading);
    return {
      text: all.length > dom.baseline ? textOf(all[all.length - 1], dom) : null,
      done: isDone(dom, all),
      busy: isLoading || seen(dom.busy),
      loading: isLoading,
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

  return { visible, rootsIn, findAll, placesOf, count, look, answer, typed };
})
