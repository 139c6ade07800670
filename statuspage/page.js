"use strict";
(() => {
  const main = document.querySelector("main"), live = document.getElementById("live");
  const opened = new Map(); // what the reader has opened or closed, by id
  let shown = new Map();    // the text of each part that is shown, by id

  const parts = (html) => {
    const t = document.createElement("template");
    t.innerHTML = html;
    return [...t.content.children];
  };
  const key = (e, i) => e.id || "part-" + i;
  const focused = () => {
    const e = document.activeElement;
    if (!e || !main.contains(e)) return null;
    const part = e.closest("main > *");
    return part && part.id ? {id: part.id, i: [...part.querySelectorAll("summary, a, [tabindex]")].indexOf(e)} : null;
  };

  // show replaces the parts that have changed, and keeps what the reader has opened, scrolled and focused.
  const show = (html) => {
    const focus = focused(), next = new Map(), old = new Map([...main.children].map((e, i) => [key(e, i), e]));
    main.replaceChildren(...parts(html).map((e, i) => {
      const k = key(e, i), before = old.get(k);
      next.set(k, e.outerHTML);
      if (before && shown.get(k) === e.outerHTML) return before;
      if (opened.has(e.id)) e.open = opened.get(e.id);
      return e;
    }));
    for (const [k, before] of old) {
      const after = document.getElementById(k);
      if (!after || after === before) continue;
      const from = before.querySelectorAll(".scroll"), to = after.querySelectorAll(".scroll");
      from.forEach((s, i) => { if (to[i]) [to[i].scrollTop, to[i].scrollLeft] = [s.rollcallTop || 0, s.rollcallLeft || 0]; });
    }
    shown = next;
    document.title = document.getElementById("summary").dataset.title;
    if (focus && focus.i >= 0) {
      const part = document.getElementById(focus.id);
      const e = part && part.querySelectorAll("summary, a, [tabindex]")[focus.i];
      if (e) e.focus({preventScroll: true});
    }
  };

  // An element that is no longer in the page has no scroll position, so it is kept while it has one.
  document.addEventListener("scroll", (e) => {
    if (e.target.classList && e.target.isConnected) {
      e.target.rollcallTop = e.target.scrollTop;
      e.target.rollcallLeft = e.target.scrollLeft;
    }
  }, true);
  document.addEventListener("click", (e) => {
    const s = e.target.closest("summary");
    if (s) setTimeout(() => opened.set(s.parentNode.id, s.parentNode.open));
  });
  const reveal = () => {
    const e = document.getElementById(location.hash.slice(1));
    if (e && "open" in e) { e.open = true; opened.set(e.id, true); }
  };
  addEventListener("hashchange", reveal);

  let waiting = null; // the newest page, while the reader has selected some text
  const selecting = () => { const s = getSelection(); return !s.isCollapsed && main.contains(s.anchorNode); };
  document.addEventListener("selectionchange", () => {
    if (waiting !== null && !selecting()) { show(waiting); waiting = null; say("live"); }
  });
  const say = (text, outdated) => {
    live.textContent = text;
    document.body.classList.toggle("outdated", !!outdated);
  };

  const connect = () => {
    const events = new EventSource("?format=events");
    events.onmessage = (e) => {
      if (selecting()) { waiting = e.data; say("paused while text is selected"); return; }
      waiting = null;
      show(e.data);
      say("live");
    };
    events.onerror = () => {
      say("connection lost, the page is outdated", true);
      if (events.readyState === EventSource.CLOSED) { events.close(); setTimeout(connect, 5000); }
    };
  };
  reveal();
  connect();
})();
