// SPDX-License-Identifier: BSD-3-Clause
// Show the time left at the top of Notebook. JupyterLab has a countdown in its status bar; Notebook
// has no status bar.
//
// This is a prebuilt extension that needs no build: the page loads this file, passes the modules it
// shares to `init`, and gets the plugin from `get`. The file must not be in a folder named `static`:
// browsers cache the files there for ever, because their names usually contain a hash.
(() => {
  "use strict";

  const NAME = "gridhub-time-left";
  let scope;

  /** Return a module of the page: of several versions the loaded one, whose tokens the page uses. */
  const shared = async (name) => {
    const versions = Object.values(scope[name]);
    const version = versions.find((each) => each.loaded) ?? versions[0];
    return (await version.get())();
  };

  const show = async (app) => {
    const { PageConfig } = await shared("@jupyterlab/coreutils");
    const config = JSON.parse(PageConfig.getOption("gridhubTimeLeft") || "null");
    if (!config) {
      return; // the session has no time limit
    }
    const { ServerConnection } = await shared("@jupyterlab/services");
    const settings = app.serviceManager.serverSettings;
    const address = `${settings.baseUrl}jupyterlab-server-timer/get-life-span`;
    const response = await ServerConnection.makeRequest(address, {}, settings);
    if (!response.ok) {
      throw new Error(`${address}: HTTP ${response.status}`);
    }
    const end = (await response.json())["end-time"] * 1000;
    // Use the server's clock: the user's may be wrong.
    const ahead = Date.parse(response.headers.get("Date")) - Date.now() || 0;

    const { Widget } = await shared("@lumino/widgets");
    const widget = new Widget();
    widget.id = NAME;
    // Screen readers can find it, but do not read every change aloud; they do read the notices.
    widget.node.setAttribute("role", "timer");
    Object.assign(widget.node.style, {
      alignSelf: "center",
      color: "var(--jp-ui-font-color1)",
      padding: "4px 8px",
      whiteSpace: "nowrap",
    });
    const count = () => {
      // Use the time of day each time: timers stop in background pages and sleeping computers.
      const left = Math.max(end - ahead - Date.now(), 0) / 1000;
      const minutes = Math.floor(left / 60);
      const clock = `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;
      const words = config.words.replace("{left}", clock);
      if (widget.node.textContent !== words) {
        widget.node.textContent = words;
      }
      const soon = left < config.soon;
      // Underline the text instead of colouring it: no theme has a readable warning colour.
      widget.node.style.fontWeight = soon ? "bold" : "normal";
      widget.node.style.boxShadow = soon ? "inset 0 -3px var(--jp-warn-color1)" : "none";
    };
    count();
    setInterval(count, 1000);
    app.shell.add(widget, "top", { rank: 20000 }); // on the right, after what fills the middle
  };

  const plugin = (IStatusBar) => ({
    id: `${NAME}:plugin`,
    autoStart: true,
    optional: [IStatusBar],
    activate: (app, statusBar) => {
      if (!statusBar) {
        // Not awaited: the page must not wait for it.
        show(app).catch((error) => console.warn("The time left is not shown:", error));
      }
    },
  });

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: (shareScope) => {
      scope = shareScope;
    },
    get: async () => {
      const { IStatusBar } = await shared("@jupyterlab/statusbar");
      return () => ({ default: plugin(IStatusBar), __esModule: true });
    },
  };
})();
