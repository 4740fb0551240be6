export { type CloudConfig, cloudSettings, defaultPorts, readCloudConfig } from './config.ts';
export { cliTokenFile, joinKeyFile } from './identity/identity.ts';
export { type Cloud, type StartCloudOptions, startCloud } from './main.ts';
