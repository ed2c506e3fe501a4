"use strict";
const state = document.getElementById("state"), link = document.getElementById("link");
let run = document.getElementById("summary").dataset.run, lost = null, stream = null;

function time() { return new Date().toISOString().slice(11, 19) + " UTC"; }

function say(text, wrong) { link.textContent = text; link.classList.toggle("lost", wrong); }

// Only parts that have changed are replaced: a reader keeps the place, the selection and the focus.
function show(html) {
  const made = document.createElement("template");
  made.innerHTML = html;
  const focus = document.activeElement && document.activeElement.id;
  const parts = [...made.content.children];
  const same = parts.length === state.children.length && parts.every((part, at) => part.id === state.children[at].id);
  if (!same) state.replaceChildren(...parts);
  else parts.forEach((part, at) => { if (!part.isEqualNode(state.children[at])) state.children[at].replaceWith(part); });
  if (focus && document.activeElement.id !== focus) document.getElementById(focus)?.focus({preventScroll: true});
}

function open() {
  stream = new EventSource("/events");
  stream.addEventListener("state", message => {
    show(message.data);
    const now = document.getElementById("summary").dataset.run;
    if (lost) say(`connected again since ${time()}` + (now === run ? "" : ": the console was restarted"), false);
    else if (link.textContent === "connecting") say("live", false);
    run = now;
    lost = null;
  });
  stream.onerror = () => {
    lost ??= time();
    const closed = stream.readyState === EventSource.CLOSED;
    say(`connection lost since ${lost}${closed ? ": the console refuses a live page" : ""}; trying again`, true);
    if (closed) setTimeout(open, 5000);
  };
}
open();
