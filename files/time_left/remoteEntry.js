// SPDX-License-Identifier: BSD-3-Clause
// The time left, at the top of Notebook. JupyterLab has a countdown in its status bar, which
// Notebook has not.
//
// This is a prebuilt extension without a build: the page loads this file, hands `init` the modules
// it shares, and asks `get` for the plugin. The file must not lie in a folder named `static`: what
// is there browsers keep for good, as it has its hash in its name otherwise.
(() => {
  "use strict";

  const NAME = "gridhub-time-left";
  let scope;

  /** Return a module of the page; of several versions the one in use, whose tokens the page knows. */
  const shared = async (name) => {
    const versions = Object.values(scope[name]);
    const version = versions.find((each) => each.loaded) ?? versions[0];
    return (await version.get())();
  };

  const show = async (app) => {
    const { PageConfig } = await shared("@jupyterlab/coreutils");
    const told = JSON.parse(PageConfig.getOption("gridhubTimeLeft") || "null");
    if (!told) {
      return; // the session has no end
    }
    const { ServerConnection } = await shared("@jupyterlab/services");
    const settings = app.serviceManager.serverSettings;
    const address = `${settings.baseUrl}jupyterlab-server-timer/get-life-span`;
    const response = await ServerConnection.makeRequest(address, {}, settings);
    if (!response.ok) {
      throw new Error(`${address}: HTTP ${response.status}`);
    }
    const end = (await response.json())["end-time"] * 1000;
    // By the server's clock: the computer's own may be wrong.
    const ahead = Date.parse(response.headers.get("Date")) - Date.now() || 0;

    const { Widget } = await shared("@lumino/widgets");
    const widget = new Widget();
    widget.id = NAME;
    // Screen readers find it, but do not say it each time it changes; the notices are said.
    widget.node.setAttribute("role", "timer");
    Object.assign(widget.node.style, {
      alignSelf: "center",
      color: "var(--jp-ui-font-color1)",
      padding: "4px 8px",
      whiteSpace: "nowrap",
    });
    const count = () => {
      // From the time of day each time: pages in the background and computers at rest do not count.
      const left = Math.max(end - ahead - Date.now(), 0) / 1000;
      const minutes = Math.floor(left / 60);
      const clock = `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}`;
      const words = told.words.replace("{left}", clock);
      if (widget.node.textContent !== words) {
        widget.node.textContent = words;
      }
      const soon = left < told.soon;
      // A line below, not a colour of the words: no theme has one that is easy to read.
      widget.node.style.fontWeight = soon ? "bold" : "normal";
      widget.node.style.boxShadow = soon ? "inset 0 -3px var(--jp-warn-color1)" : "none";
    };
    count();
    setInterval(count, 1000);
    app.shell.add(widget, "top", { rank: 20000 }); // at the right, after what fills the middle
  };

  const plugin = (IStatusBar) => ({
    id: `${NAME}:plugin`,
    autoStart: true,
    optional: [IStatusBar],
    activate: (app, statusBar) => {
      if (!statusBar) {
        // Not awaited: the page is there without it.
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
