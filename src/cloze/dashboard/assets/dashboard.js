// What the page does without asking the server.
(function () {
  "use strict";
  const MOST = 50; // runs that are drawn where none is selected
  const LONGEST = 4096; // characters of an address that a browser sends as Referer, where the server reads it
  let pause = 0;
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  const skip = () => window.dash_clientside.no_update;

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    cloze: {
      // The filter where a button has set it, or Enter was pressed.
      said: text => text || "",

      // The runs to draw: those selected, else the first of those listed, in the list's own order.
      drawn(selected, listed, now) {
        const chosen = Array.isArray(selected) ? selected.map(row => row.id) : (selected && selected.ids) || [];
        if (!listed) return skip(); // the grid is not so far
        const all = listed.map(row => row.id);
        const next = chosen.length
          ? {ids: chosen, of: chosen.length, selected: true}
          : {ids: all.slice(0, MOST), of: all.length, selected: false};
        return same(next, now) ? skip() : next;
      },

      // The run that is open: its name was clicked, "all runs" was, or the browser went back or forth.
      open(clicked, back, search, now) {
        const by = window.dash_clientside.callback_context.triggered_id;
        if (by === "back") return null;
        if (by === "runs") return clicked && clicked.colId === "name" ? clicked.rowId : skip();
        const said = new URLSearchParams(window.location.search).get("run");
        return said === now ? skip() : said;
      },

      show(opened) {
        window.scrollTo(0, 0);
        return [{display: opened ? "none" : "block"}, {display: opened ? "block" : "none"}];
      },

      // The address that brings all of this back.
      address(filter, group, columns, metrics, axis, smooth, log, drawn, opened, other, before) {
        const said = new URLSearchParams();
        if (filter) said.set("filter", filter);
        if (group) said.set("group", group);
        if (columns) said.set("columns", columns.join(",")); // none at all is a choice, too
        if (metrics) said.set("metrics", metrics.join(","));
        if (axis && axis !== "step") said.set("x", axis);
        if (smooth) said.set("smooth", smooth);
        if (log && log.length) said.set("log", log.join(","));
        if (opened) said.set("run", opened);
        if (opened && other) said.set("other", other);
        if (drawn && drawn.selected) drawn.ids.forEach(id => said.append("select", id));
        const written = () => "?" + said.toString().replaceAll("%2F", "/").replaceAll("%2C", ",");
        if ((window.location.origin + "/" + written()).length > LONGEST) said.delete("select");
        const address = written();
        if (address === window.location.search) return opened || null;
        const other_view = (opened || null) !== (new URLSearchParams(window.location.search).get("run"));
        window.history[other_view ? "pushState" : "replaceState"](null, "", address);
        return opened || null;
      },

      configOptions(text, only, options) {
        const next = Object.assign({}, options, {quickFilterText: text || ""});
        next.isExternalFilterPresent = {function: only && only.length ? "true" : "false"};
        next.doesExternalFilterPass = {function: "params.data.differs !== ''"};
        return next;
      },
    },
  });

  // The filter once nothing was typed for a moment.
  document.addEventListener("input", event => {
    if (event.target.id !== "filter") return;
    clearTimeout(pause);
    pause = setTimeout(() => window.dash_clientside.set_props("said", {data: event.target.value}), 300);
  });

  const functions = (window.dashAgGridFunctions = window.dashAgGridFunctions || {});
  functions.Duration = seconds => {
    if (seconds < 60) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds % 60)];
    return h ? `${h} h ${m} min` : `${m} min ${s} s`;
  };
})();
