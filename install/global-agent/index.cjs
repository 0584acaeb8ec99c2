/**
 * onnxruntime-node's install script downloads hundreds of megabytes of CUDA libraries on every Linux machine, from outside of the npm
 * registry, and fails the whole install where it cannot. It can be told not to by an environment variable or an option, which a package
 * has no way to set for those who install it. The first thing that the script does is `require('global-agent').bootstrap()`; this is
 * that module. It ends the script unless the libraries were asked for, as in
 *
 *     npm rebuild onnxruntime-node --onnxruntime-node-install=cuda12
 *
 * In a clone it comes in by `overrides` in package.json, in an installed package by `install/preinstall.mjs`.
 */
'use strict';

const asked = [
  process.env.ONNXRUNTIME_NODE_INSTALL,
  process.env.npm_config_onnxruntime_node_install,
  process.env.ONNXRUNTIME_NODE_INSTALL_CUDA,
  process.env.npm_config_onnxruntime_node_install_cuda,
  process.argv.find((argument) => argument.startsWith('--onnxruntime-node-install')),
].some((value) => value !== undefined && value !== '');

exports.bootstrap = () => {
  if (!asked) process.exit(0);
};
