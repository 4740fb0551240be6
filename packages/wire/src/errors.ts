/**
 * Every error that a user can meet, by code. `status` is what HTTP answers; `action` tells the user what to do.
 * What happened this time is the error's `detail`.
 */
export const errorCatalogue = {
  CONFIG_INVALID: {
    status: 500,
    title: 'A setting has a wrong value',
    action: 'Correct the value and start again.',
  },
  PORT_TAKEN: {
    status: 500,
    title: 'A port is in use',
    action: 'Stop the program that holds it, or choose another port with the variable named.',
  },
  DATA_DIR_UNUSABLE: {
    status: 500,
    title: 'The data folder cannot be used',
    action: 'Check that the folder exists, is writable and belongs to no other running Millrace.',
  },
  TOPIC_INVALID: {
    status: 400,
    title: 'Not a usable MQTT topic',
    action:
      'Use a base of up to four levels without + or #, for example container-manager/logs or device/logs.',
  },
  OPTION_INVALID: { status: 500, title: 'An option has a wrong value', action: 'Correct the option named.' },
  ENGINE_UNREACHABLE: {
    status: 503,
    title: 'The Docker engine does not answer',
    action: 'Start Docker, or set DOCKER_HOST. The agent keeps trying.',
  },
  SERVICE_FAILED: {
    status: 500,
    title: 'The service could not be set up',
    action: 'Look at what systemd says with journalctl -u millrace-agent, and try again.',
  },
  SOURCE_UNREADABLE: {
    status: 503,
    title: 'A log source cannot be read',
    action:
      "Check that it exists and that the agent's user may read it (for the journal: group systemd-journal). The agent keeps trying.",
  },
  BROKER_UNREACHABLE: {
    status: 503,
    title: 'The MQTT broker cannot be reached',
    action: 'Check MQTT_BROKER, the network and the credentials. Sending resumes by itself.',
  },
  BROKER_REFUSED: {
    status: 401,
    title: 'The MQTT broker refused the connection',
    action: 'Check MQTT_USERNAME and MQTT_PASSWORD, or the client certificate.',
  },
  CLOUD_UNREACHABLE: {
    status: 503,
    title: 'The cloud cannot be reached',
    action: 'Check the address and the network. Sending resumes by itself.',
  },
  CLOUD_REFUSED: {
    status: 401,
    title: 'The cloud refused the device',
    action: 'Check CLOUD_API_KEY or JOIN_KEY.',
  },
  UNAUTHORIZED: {
    status: 401,
    title: 'No valid credentials',
    action: 'Send "Authorization: Bearer <token>" with a token that this server knows.',
  },
  FORBIDDEN: {
    status: 403,
    title: 'Not allowed',
    action: 'Use credentials that cover this device or action.',
  },
  NOT_FOUND: { status: 404, title: 'Not found', action: 'Check the address.' },
  PARAMETER_INVALID: {
    status: 400,
    title: 'A parameter has a wrong value',
    action: 'Correct the parameter named.',
  },
  QUERY_INVALID: {
    status: 400,
    title: 'The query cannot be read',
    action: 'Correct it at the place named; what is between double quotes is searched for as it is.',
  },
  BODY_INVALID: {
    status: 400,
    title: 'The body cannot be read',
    action: 'Send what the documentation shows.',
  },
  BODY_TOO_LARGE: { status: 413, title: 'The body is too large', action: 'Send it in smaller parts.' },
  BOMB_REFUSED: {
    status: 413,
    title: 'The compressed body grows beyond reason',
    action: 'Send ordinary log lines; what was read before the limit is kept.',
  },
  APP_INVALID: {
    status: 400,
    title: 'The app is not described correctly',
    action: 'Correct the fields named; docs/apps.md lists all of them.',
  },
  TARGET_INVALID: {
    status: 400,
    title: 'The target of the device cannot be read',
    action: 'Nothing was changed. Check that agent and cloud are of the same version.',
  },
  APP_OF_CLOUD: {
    status: 409,
    title: 'The app was deployed from the cloud',
    action:
      'Change or remove it there; or set CLOUD_DEPLOY=off, and the device keeps to what it is told here.',
  },
  APPS_NOT_SAVED: {
    status: 503,
    title: 'What the apps shall be could not be saved',
    action: 'Nothing was changed. Check that the data folder is writable and its disk not full.',
  },
  IMAGE_MISSING: {
    status: 404,
    title: 'The image does not exist, or not for this device',
    action:
      'Check its name, tag and platform, and whether its registry needs a login (REGISTRY_AUTH_FILE). It is tried again.',
  },
  IMAGE_UNAVAILABLE: {
    status: 503,
    title: 'The image could not be pulled',
    action: 'Check the network and the registry. It is tried again.',
  },
  REGISTRY_REFUSED: {
    status: 401,
    title: 'The registry of an image wants a login, or another one',
    action:
      'Put the login into a file (docker login writes one) and name that with REGISTRY_AUTH_FILE. It is tried again.',
  },
  LOGINS_UNUSABLE: {
    status: 500,
    title: 'The file with logins at registries cannot be used',
    action:
      'Correct the file: for each registry "auths" holds "auth", user:password in base64; logins kept by a program (credsStore, credHelpers) cannot be read. It is tried again.',
  },
  PORT_CONFLICT: {
    status: 409,
    title: 'A published port is in use on this device',
    action: 'Stop what holds it, or publish another one. It is tried again.',
  },
  CONTAINER_REFUSED: {
    status: 409,
    title: 'The Docker engine refused a step',
    action: 'See what it said, and correct the service. It is tried again.',
  },
  SERVICE_UNWELL: {
    status: 500,
    title: 'A service does not stay up or is not healthy',
    action: "See the service's logs.",
  },
  POWER_FAILED: {
    status: 500,
    title: 'The device could not be rebooted or shut down',
    action: "Give the agent's user the right to (systemctl reboot), or do it by hand.",
  },
  CONFLICT: { status: 409, title: 'It exists already', action: 'Use the existing one, or another name.' },
  OVERLOADED: { status: 503, title: 'Too much is waiting to be stored', action: 'Try again in a moment.' },
  DEVICE_ELSEWHERE: {
    status: 503,
    title: 'Another process of the cloud answers for this device',
    action: 'Try again in a moment; nothing that was not acknowledged is lost.',
  },
  QUOTA_EXCEEDED: {
    status: 429,
    title: "The device's quota for today is used up",
    action:
      'Nothing more of it is stored before midnight UTC. An agent keeps its lines and sends them then; or raise the quota with a policy.',
  },
  STORE_FAILED: {
    status: 503,
    title: 'The log store failed',
    action: 'Nothing was acknowledged; it is sent again.',
  },
  RECORDS_FAILED: {
    status: 503,
    title: 'The records cannot be reached',
    action: 'Check the database of DATABASE_URL, or the disk. Nothing was changed; try again.',
  },
  BACKUP_IMPOSSIBLE: {
    status: 409,
    title: 'No backup can be made',
    action: 'Make room, or choose another folder with BACKUP_DIR; a server is backed up by its own means.',
  },
  BACKUP_UNUSABLE: {
    status: 500,
    title: 'The backup cannot be used',
    action: 'Name the folder of a backup, as "millrace cloud backup" has printed it, whole.',
  },
  SERVER_UNREACHABLE: {
    status: 503,
    title: 'The Millrace server does not answer',
    action: 'Start it with "npm start", or give its address with --url or MILLRACE_URL.',
  },
  TOKEN_UNUSABLE: {
    status: 401,
    title: 'The token is missing or not accepted',
    action: 'Set MILLRACE_TOKEN, or run this where "npm start" runs, with the same DATA_DIR.',
  },
  STOP_TIMED_OUT: {
    status: 500,
    title: 'It did not stop in time',
    action: 'Nothing that was acknowledged is lost; what was on its way is sent again after the next start.',
  },
  STORE_TOO_NEW: {
    status: 500,
    title: 'The log store was made by a newer program',
    action: 'Install that version of Millrace or a later one, or use another data folder.',
  },
  INTERNAL: { status: 500, title: 'Something went wrong here', action: 'See the server log.' },
} as const satisfies Record<string, { status: number; title: string; action: string }>;

export type ErrorCode = keyof typeof errorCatalogue;

/** An RFC 9457 problem document, as our HTTP APIs answer it (`application/problem+json`). */
export interface Problem {
  type: string;
  title: string;
  status: number;
  code: ErrorCode;
  detail: string;
  action: string;
}

/** The one error class of Millrace: a code of the catalogue, what happened, and the cause if there is one. */
export class MillraceError extends Error {
  readonly code: ErrorCode;
  readonly detail: string;

  constructor(code: ErrorCode, detail: string, options?: { cause?: unknown }) {
    super(`${code}: ${detail}. ${errorCatalogue[code].action}`, options);
    this.name = 'MillraceError';
    this.code = code;
    this.detail = detail;
  }

  get status(): number {
    return errorCatalogue[this.code].status;
  }

  get action(): string {
    return errorCatalogue[this.code].action;
  }

  toProblem(): Problem {
    const { status, title, action } = errorCatalogue[this.code];
    return {
      type: `urn:millrace:error:${this.code}`,
      title,
      status,
      code: this.code,
      detail: this.detail,
      action,
    };
  }
}

/** Short text of anything thrown, for a log line. */
export function errorText(error: unknown): string {
  if (error instanceof Error) {
    // Node's AggregateError of a refused connection has an empty message; its code says what happened.
    return error.message || (error as NodeJS.ErrnoException).code || error.name;
  }
  return String(error);
}
