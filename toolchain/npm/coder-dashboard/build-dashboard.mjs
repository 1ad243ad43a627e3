// Upstream's own configuration without two things that nobody needs here: the type check and the source maps.
import { build, loadConfigFromFile } from "vite";

const { config } = await loadConfigFromFile({ command: "build", mode: "production" }, "vite.config.mts");
const plugins = config.plugins.flat().filter((plugin) => !plugin.name.startsWith("vite-plugin-checker"));
await build({ ...config, configFile: false, plugins, build: { ...config.build, sourcemap: false } });
