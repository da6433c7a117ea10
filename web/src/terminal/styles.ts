/**
 * xterm.js styles itself with style elements and style attributes, which the page's policy forbids, as it should: what a
 * policy lets in for one, it lets in for all. Here both are done in ways that only scripts have: a style element becomes
 * a sheet of the document, a style attribute is set through the DOM.
 */

/** The browser's own way to make an element, whatever stands in for it. */
const plain = (tag: string, options?: ElementCreationOptions): HTMLElement =>
  Document.prototype.createElement.call(document, tag, options); // eslint-disable-line @typescript-eslint/no-deprecated -- another signature of it is

/** An element that is not shown; its text is a sheet of the page for as long as it is in it. */
function styleStandIn(): HTMLElement {
  const element = plain('span');
  element.hidden = true;
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(element, 'textContent', {
    set: (text: string) => {
      sheet.replaceSync(text);
    },
    get: () => '',
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    HTMLElement.prototype.remove.call(element);
  };
  return element;
}

/** It makes its style elements when it is opened, and then only changes them. */
export function whileOpening(open: () => void): void {
  Reflect.defineProperty(document, 'createElement', {
    configurable: true,
    value: (...asked: [tag: string, options?: ElementCreationOptions]) =>
      asked[0] === 'style' ? styleStandIn() : plain(...asked),
  });
  try {
    open();
  } finally {
    Reflect.deleteProperty(document, 'createElement');
  }
}

/** Colours that are not among the sixteen are style attributes of the spans of a line. */
HTMLSpanElement.prototype.setAttribute = function (name: string, value: string): void {
  if (name === 'style') this.style.cssText = value;
  else HTMLElement.prototype.setAttribute.call(this, name, value);
};
