/**
 * xterm.js styles itself with style elements and style attributes, which the page's policy forbids, as it should: what a
 * policy lets in for one, it lets in for all. Here they become sheets that this script makes, which are allowed. It is
 * given a document that makes a stand-in for each style element and sets each style attribute through the DOM.
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

function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === 'style') this.style.cssText = value;
  else HTMLElement.prototype.setAttribute.call(this, name, value);
}

const create = (tag: string): HTMLElement => {
  if (tag === 'style') return styleStandIn();
  const element = plain(tag);
  element.setAttribute = setAttribute;
  return element;
};

/** For xterm.js' `documentOverride`. */
export const styledDocument = new Proxy(document, {
  get(target, name) {
    if (name === 'createElement') return create;
    const value: unknown = Reflect.get(target, name, target);
    return typeof value === 'function' ? (value.bind(target) as unknown) : value;
  },
});

/** Its scroll bar asks the window's own document for a style element, once, when it is opened. */
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
