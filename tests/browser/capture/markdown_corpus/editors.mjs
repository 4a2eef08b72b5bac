// Puts a text into each editor that chat pages draw code blocks with, and returns the HTML that it makes of it.
import { basicSetup } from "codemirror";
import { EditorView } from "@codemirror/view";
import { javascript } from "@codemirror/lang-javascript";
import * as monaco from "monaco-editor";

const settled = () => new Promise((resolve) => setTimeout(resolve, 1000));

window.rendered = async (code) => {
  const [first, second] = ["", ""].map(() => document.body.appendChild(document.createElement("div")));
  new EditorView({ doc: code, parent: first, extensions: [basicSetup, javascript()] });
  second.style.cssText = "width: 600px; height: 400px";
  monaco.editor.create(second, { value: code, language: "javascript", readOnly: true, minimap: { enabled: false } });
  await settled();
  return { codemirror: first.innerHTML, monaco: second.innerHTML };
};
