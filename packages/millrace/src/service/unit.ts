import type { Places } from './places.ts';

export interface UnitOptions {
  readonly places: Places;
  /** Absolute path of the Node that runs the agent, 24 or newer. */
  readonly node: string;
  /** Absolute path of the `millrace` command. */
  readonly program: string;
  /** Runs as root, instead of as a user of its own that may only read. */
  readonly asRoot: boolean;
  /** Folder of the data; `undefined` for the usual one. */
  readonly dataDir: string | undefined;
  /** The groups of {@link wantedGroups} that this machine has: systemd starts no unit that names another. */
  readonly groups: readonly string[];
}

/** `docker` opens the engine's socket, `systemd-journal` the system's journal. */
export const wantedGroups = ['docker', 'systemd-journal'] as const;

/**
 * The unit file of the agent. systemd.service(5), systemd.exec(5)
 *
 * The machine's agent runs as a user that systemd makes up, unless it must be root. Docker keeps its log files from
 * everyone but root, hence the one capability to read what others may not; with port 514 in mind, a second one.
 */
export function unitText(options: UnitOptions): string {
  const { places, node, program, dataDir } = options;
  const data = dataDir ?? places.data;
  return `# Made by "millrace agent install", and written anew by it. For changes of your own: systemctl edit millrace-agent
[Unit]
Description=Millrace agent: captures the logs of containers and ships them
After=network-online.target docker.service
Wants=network-online.target
# A device has nobody to start it again by hand.
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart=${quoted(node)} ${quoted(program)} agent
Environment=${quoted(`DATA_DIR=${data}`)}
EnvironmentFile=-${specifiersEscaped(places.settings)}
Restart=always
RestartSec=2
# The agent alone is asked to stop, and ends its children itself.
KillMode=mixed
TimeoutStopSec=20
LimitNOFILE=65536
${places.scope === 'system' ? confinement(options, data) : ''}
[Install]
WantedBy=${places.scope === 'system' ? 'multi-user.target' : 'default.target'}
`;
}

function confinement({ asRoot, groups, dataDir }: UnitOptions, data: string): string {
  const user = asRoot
    ? []
    : [
        'DynamicUser=yes',
        ...(groups.length > 0 ? [`SupplementaryGroups=${groups.join(' ')}`] : []),
        'AmbientCapabilities=CAP_DAC_READ_SEARCH CAP_NET_BIND_SERVICE CAP_SYS_NICE',
        'CapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_NET_BIND_SERVICE CAP_SYS_NICE',
        'RestrictSUIDSGID=yes',
      ];
  const writable = dataDir === undefined ? 'StateDirectory=millrace' : `ReadWritePaths=${quoted(data)}`;
  return [
    ...user,
    writable,
    'StateDirectoryMode=0700',
    'UMask=0077',
    // When memory runs out, what fills it should go before what tells of it.
    'OOMScoreAdjust=-500',
    'NoNewPrivileges=yes',
    'ProtectSystem=strict',
    'ProtectHome=read-only',
    'PrivateTmp=yes',
    'ProtectClock=yes',
    'ProtectHostname=yes',
    'ProtectKernelLogs=yes',
    'ProtectKernelModules=yes',
    'ProtectKernelTunables=yes',
    'ProtectControlGroups=yes',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    'RestrictNamespaces=yes',
    'LockPersonality=yes',
    'SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @swap',
    'SystemCallErrorNumber=EPERM',
    'SystemCallArchitectures=native',
    '',
  ].join('\n');
}

/** One word of a command line or an assignment, as systemd.syntax(7) wants it. */
function quoted(text: string): string {
  return `"${specifiersEscaped(text).replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('$', '$$$$')}"`;
}

function specifiersEscaped(text: string): string {
  return text.replaceAll('%', '%%');
}
