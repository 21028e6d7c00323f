// SPDX-License-Identifier: BSD-3-Clause
// Draw the widgets of ipywidgets 7 in users' own kernels: register the classes of the installed front
// end, jupyterlab_widgets 3, which is that of ipywidgets 8, under the older version numbers as well.
// Their protocol is the same. Classes whose state has another form are adapted.
//
// This is a prebuilt extension that needs no build (see status_bar/remoteEntry.js).
(() => {
  "use strict";

  const NAME = "gridhub-widgets-7";
  // The versions that the kernels of ipywidgets 7.5 to 7.8 ask for.
  const BASE = "1.2.0";
  const CONTROLS = "1.5.0";
  let scope;

  const shared = async (name) => {
    const versions = Object.values(scope[name] ?? {});
    const version = versions.find((each) => each.loaded) ?? versions[0];
    return version && (await version.get())();
  };

  /** Ipywidgets 7 has the titles of tabs as `_titles`, such as {"0": "First"}, not as a list. */
  const withTitles = (Model) =>
    class extends Model {
      initialize(...values) {
        super.initialize(...values);
        this.on("change:_titles", this.readTitles, this);
        this.readTitles();
      }

      readTitles() {
        this.set("titles", Object.assign([], this.get("_titles") ?? {}));
      }
    };

  const plugin = (base) => ({
    id: `${NAME}:plugin`,
    autoStart: true,
    optional: [base.IJupyterWidgetRegistry],
    activate: (app, registry) => {
      if (!registry) {
        return;
      }
      registry.registerWidget({
        name: "@jupyter-widgets/base",
        version: BASE,
        exports: base,
      });
      registry.registerWidget({
        name: "@jupyter-widgets/controls",
        version: CONTROLS,
        exports: async () => {
          const controls = await shared("@jupyter-widgets/controls");
          return {
            ...controls,
            AccordionModel: withTitles(controls.AccordionModel),
            TabModel: withTitles(controls.TabModel),
          };
        },
      });
    },
  });

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = {
    init: (shareScope) => {
      scope = shareScope;
    },
    get: async () => {
      const base = await shared("@jupyter-widgets/base");
      return () => ({ default: base ? plugin(base) : [], __esModule: true });
    },
  };
})();
