import { agentSettings } from '@millrace/agent';
import { cloudSettings } from '@millrace/cloud';
import { describeSettings, type Settings } from '@millrace/wire';
import { expect, test } from 'vitest';

function table(settings: Settings): string {
  const cell = (text: string) => text.replaceAll('|', '\\|');
  const rows = describeSettings(settings).map(
    ({ env, default: fallback, help }) =>
      `| \`${env}\` | ${fallback ? `\`${cell(fallback)}\`` : ''} | ${cell(help)} |`,
  );
  return ['| variable | default | meaning |', '|---|---|---|', ...rows].join('\n');
}

// `npm test -- tests/settings-page.test.ts --update=all` writes the page anew.
test('docs/settings.md lists the settings as the programs read them', async () => {
  const page = `# Settings

Every setting is an environment variable. An empty one counts as unset. A wrong value stops the start with its name, the
value and what is allowed. \`npm start\` reads both tables.

## Agent (\`npm run dev\`, \`millrace agent\`)

${table(agentSettings)}

## Cloud (\`npm run cloud\`, \`millrace cloud\`)

${table(cloudSettings)}

## Command line (\`millrace logs\`)

| variable | default | meaning |
|---|---|---|
| \`MILLRACE_URL\` | \`http://127.0.0.1:$CLOUD_PORT\` | Address of the cloud. |
| \`MILLRACE_TOKEN\` | the token that a start leaves in \`DATA_DIR\` | Token for the cloud's API. |
| \`NO_COLOR\` | | Set: no colours. |
`;
  await expect(page).toMatchFileSnapshot('../docs/settings.md');
});
