// SPDX-License-Identifier: BSD-3-Clause
// Show the site's shortcuts to folders above the file browser of JupyterLab and Notebook.
//
// This is a prebuilt extension that needs no build, like `status_bar`.
(() => {
  "use strict";

  const NAME = "gridhub-shortcuts";
  let scope;

  /** Return a module of the page: of several versions the loaded one, whose tokens the page uses. */
  const shared = async (name) => {
    const versions = Object.values(scope[name]);
    const version = versions.find((each) => each.loaded) ?? versions[0];
    return (await version.get())();
  };

  const show = async (browser) => {
    const { PageConfig } = await shared("@jupyterlab/coreutils");
    const config = JSON.parse(PageConfig.getOption("gridhubShortcuts") || "null");
    if (!config || !browser) {
      return; // the site has no shortcuts for this user, or the page has no file browser
    }
    const { Widget } = await shared("@lumino/widgets");
    const widget = new Widget({ node: document.createElement("nav") });
    widget.id = NAME;
    widget.node.setAttribute("aria-label", config.heading);
    Object.assign(widget.node.style, {
      display: "flex",
      flex: "0 0 auto",
      flexWrap: "wrap",
      gap: "4px",
      maxHeight: "30%",
      overflow: "auto",
      padding: "8px 12px",
    });
    for (const { name, path } of config.folders) {
      const button = document.createElement("button");
      button.textContent = name;
      button.title = `/${path}`;
      button.className = "jp-mod-styled jp-mod-minimal";
      button.style.color = "var(--jp-ui-font-color1)";
      button.addEventListener("click", async () => {
        try {
          // The file browser itself would show the root folder instead, without the reason.
          await browser.model.manager.services.contents.get(path, { content: false });
          await browser.model.cd(`/${path}`);
        } catch (error) {
          const { showErrorMessage } = await shared("@jupyterlab/apputils");
          await showErrorMessage(name, error);
        }
      });
      widget.node.append(button);
    }
    browser.layout.insertWidget(0, widget);
  };

  const plugin = (IDefaultFileBrowser) => ({
    id: `${NAME}:plugin`,
    autoStart: true,
    optional: [IDefaultFileBrowser],
    activate: (app, browser) => {
      // Not awaited: the page must not wait for it.
      show(browser).catch((error) => console.warn("The shortcuts are not shown:", error));
    },
  });

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: (shareScope) => {
      scope = shareScope;
    },
    get: async () => {
      const { IDefaultFileBrowser } = await shared("@jupyterlab/filebrowser");
      return () => ({ default: plugin(IDefaultFileBrowser), __esModule: true });
    },
  };
})();
