/** How a command that asks a cloud finds it. */
export const serverHelp = `
Environment:
  MILLRACE_URL    Address of the server. Default: http://127.0.0.1:CLOUD_PORT (8080).
  MILLRACE_TOKEN  Token of the server. Default: the one that "millrace up" leaves in DATA_DIR (./data), on the
                  same machine only.
`;
