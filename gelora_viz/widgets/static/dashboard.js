// A section of the dashboard: its heading, what is known, and the few controls that it may have.

export default {
  render(view) {
    const { model } = view;
    const panel = openPanel(view, model.get("title"));
    const title = make("h2", { class: "gv-title" });
    const hint = make("p");
    const facts = make("dl", { class: "gv-facts" });
    const tasks = make("ul", { class: "gv-tasks", "aria-label": "Steps of the study" });
    const controls = makeControls(panel, model);
    panel.body.append(title, hint, facts, tasks, controls, makeFileLink(panel, model));
    panel.follow(["title"], () => (title.textContent = model.get("title")));
    panel.follow(["hint"], () => {
      hint.textContent = model.get("hint");
      hint.hidden = !model.get("hint");
    });
    panel.follow(["facts"], () => {
      facts.hidden = model.get("facts").length === 0;
      facts.replaceChildren(...model.get("facts").map(([name, value]) =>
        make("div", {}, make("dt", {}, name), make("dd", {}, value))));
    });
    panel.follow(["tasks"], () => {
      tasks.hidden = model.get("tasks").length === 0;
      tasks.replaceChildren(...model.get("tasks").map(([done, words]) => make("li", {},
        make("span", { "aria-hidden": "true" }, done ? "✓ " : "○ "), words,
        make("span", { class: "gv-unseen" }, done ? ", done" : ", to do"))));
    });
    return panel.leave;
  },
};

function makeControls({ follow }, model) {
  const select = make("select", { change: () => set(model, { choice: select.value }) });
  const choice = labeled("", select);
  const input = make("input", { type: "text", autocomplete: "off", spellcheck: "false" });
  const text = labeled("", input);
  const buttons = make("div", { class: "gv-controls" });
  const press = (name) => set(model, { text: input.value.trim(), press: [name, (model.get("press")[1] ?? 0) + 1] });
  input.addEventListener("change", () => set(model, { text: input.value.trim() }));
  input.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || model.get("buttons").length === 0) return;
    event.preventDefault();
    event.stopPropagation();
    press(model.get("buttons")[0]);
  });
  follow(["choices", "choice", "choice_label"], () => {
    choice.hidden = model.get("choices").length === 0;
    choice.firstChild.textContent = model.get("choice_label");
    select.replaceChildren(...model.get("choices").map((each) => make("option", { value: each }, each)));
    select.value = model.get("choice");
  });
  follow(["text", "text_label"], () => {
    text.hidden = !model.get("text_label");
    text.firstChild.textContent = model.get("text_label");
    if (document.activeElement !== input || !model.get("text")) input.value = model.get("text");
  });
  follow(["buttons"], () => {
    buttons.replaceChildren(...model.get("buttons").map((name) =>
      make("button", { type: "button", click: () => press(name) }, name)));
  });
  return make("div", { class: "gv-controls" }, choice, text, buttons);
}

/** A link that saves the file. It opens outside this page, which holds the rights of the notebook. */
function makeFileLink({ follow, onLeave }, model) {
  const link = make("a", { hidden: true });
  const receive = (message, buffers) => {
    if (typeof message?.file !== "string" || !buffers?.length) return;
    URL.revokeObjectURL(link.href);
    link.href = URL.createObjectURL(new Blob(buffers, { type: "text/html" }));
    link.download = message.file;
    link.textContent = `Save ${message.file}`;
    link.hidden = false;
  };
  model.on("msg:custom", receive);
  onLeave(() => {
    model.off("msg:custom", receive);
    if (link.href) URL.revokeObjectURL(link.href);
  });
  follow(["file_name", "status"], () => {
    if (model.get("file_name")) call(model, "pass_file");
  });
  return link;
}
