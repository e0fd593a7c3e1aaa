// Who plays in the demo. The tenants, campaigns and tasks are those of supabase/seed.sql; the people are made up, and
// so are their addresses and numbers (reserved domain, numbers that nobody has).

export const tenants = {
  'pizza-shop': { id: '10000000-0000-4000-8000-000000000001', name: 'Pizza Shop', owner: 'Rosa' },
  gym: { id: '10000000-0000-4000-8000-000000000002', name: 'Gym', owner: 'Frank' },
  salon: { id: '10000000-0000-4000-8000-000000000003', name: 'Salon', owner: 'Lakshmi' },
} as const;
export type Slug = keyof typeof tenants;
export const slugs: readonly Slug[] = ['pizza-shop', 'gym', 'salon'];

/** The kinds of tasks that are played, in the words of the closing table. */
export const kinds = {
  facebook_comment: 'Facebook comment',
  instagram_comment: 'Instagram comment',
  instagram_photo_tag: 'Instagram photo tag',
  instagram_mention: 'Instagram mention',
  instagram_dm_keyword: 'Instagram message',
  instagram_follow: 'Instagram follow',
  link_visit: 'visit of a link',
  x_follow: 'X follow',
} as const;
export type Kind = keyof typeof kinds;

export interface Task {
  tenant: Slug;
  campaignId: string;
  kind: Kind;
  title: string;
  /** Comments: the post in the simulated Meta. */
  postId?: string;
  /** A claim must be proven within this time; the seed's 24 hours where nothing is said. */
  verifyWithinSeconds?: number;
}

const summer = { tenant: 'pizza-shop', campaignId: '20000000-0000-4000-8000-000000000011' } as const;
const gym = { tenant: 'gym', campaignId: '20000000-0000-4000-8000-000000000021' } as const;
const afterHours = { tenant: 'salon', campaignId: '20000000-0000-4000-8000-000000000032' } as const;

export const tasks = {
  summer: {
    ...summer,
    kind: 'facebook_comment',
    title: 'Comment on our summer post',
    postId: '100000000000001_2001',
  },
  oven: {
    ...summer,
    kind: 'instagram_comment',
    title: 'Comment on our oven video',
    postId: '17900000000000101',
    verifyWithinSeconds: 8,
  },
  photo: { ...summer, kind: 'instagram_photo_tag', title: 'Tag us in a photo of your slice' },
  mention: { ...summer, kind: 'instagram_mention', title: 'Mention us in a post' },
  menu: { ...summer, kind: 'link_visit', title: 'Have a look at the summer menu' },
  topping: {
    tenant: 'pizza-shop',
    campaignId: '20000000-0000-4000-8000-000000000012',
    kind: 'facebook_comment',
    title: 'Tell us your Tuesday topping',
    postId: '100000000000001_2002',
  },
  goal: {
    ...gym,
    kind: 'instagram_comment',
    title: 'Comment with your goal',
    postId: '17900000000000201',
    verifyWithinSeconds: 8,
  },
  follow: { ...gym, kind: 'instagram_follow', title: 'Follow us' },
  keyword: { ...gym, kind: 'instagram_dm_keyword', title: 'Send us the word STRONG' },
  look: {
    tenant: 'salon',
    campaignId: '20000000-0000-4000-8000-000000000031',
    kind: 'instagram_comment',
    title: 'Comment on our new look',
    postId: '17900000000000301',
    verifyWithinSeconds: 8,
  },
  evening: {
    ...afterHours,
    kind: 'facebook_comment',
    title: 'Which evening suits you?',
    postId: '100000000000003_2001',
  },
  /** Not in the seed: the Salon's owner offers it. */
  x: { ...afterHours, kind: 'x_follow', title: 'Follow us on X' },
} as const satisfies Record<string, Task>;

/** The campaign of the Salon whose hours are over, and its zone. */
export const closedCampaign = {
  id: afterHours.campaignId,
  name: 'After hours',
  timeZone: 'Asia/Kolkata',
} as const;

/** What somebody does about a claim. */
export type Deed =
  /** What the task asks for, with the claim's code where one goes along. */
  | 'does'
  /** Comments under the own name, before claiming. */
  | 'name'
  /** Comments only after the claim was looked at once. */
  | 'late'
  /** Not what the task asks for. */
  | 'never';

export interface Person {
  name: string;
  phone: string;
  claims: { task: Task; deed: Deed }[];
  /** Claims the first task a second time, which must be refused. */
  greedy?: true;
}

const person = (name: string, phone: string, ...claims: [Task, Deed][]): Person => ({
  name,
  phone,
  claims: claims.map(([task, deed]) => ({ task, deed })),
});

export const people: readonly Person[] = [
  { ...person('Giulia', '+39 320 000 0001', [tasks.summer, 'does'], [tasks.oven, 'does']), greedy: true },
  person('Noah', '+1 212 555 0101', [tasks.goal, 'does']),
  person('Priya', '+91 90000 00001', [tasks.look, 'does']),
  person('Marco', '+39 320 000 0002', [tasks.summer, 'name']),
  person('Ava', '+1 212 555 0102', [tasks.goal, 'name']),
  person('Meera', '+91 90000 00002', [tasks.evening, 'does']),
  person('Davide', '+39 320 000 0003', [tasks.oven, 'never'], [tasks.menu, 'does']),
  person('Ethan', '+1 212 555 0103', [tasks.goal, 'never'], [tasks.follow, 'does']),
  person('Rohan', '+91 90000 00003', [tasks.look, 'never'], [tasks.x, 'does']),
  person('Sofia', '+39 320 000 0004', [tasks.summer, 'does'], [tasks.topping, 'does']),
  person('Mia', '+1 212 555 0104', [tasks.goal, 'does']),
  person('Arjun', '+91 90000 00004', [tasks.look, 'name']),
  person('Luca', '+39 320 000 0005', [tasks.summer, 'late']),
  person('Liam', '+1 212 555 0105', [tasks.goal, 'name']),
  person('Nikhil', '+91 90000 00005', [tasks.evening, 'never'], [tasks.x, 'never']),
  person('Elena', '+39 320 000 0006', [tasks.summer, 'never'], [tasks.photo, 'does']),
  person('Ruby', '+1 212 555 0109', [tasks.keyword, 'does']),
  person('Dev', '+91 90000 00006', [tasks.evening, 'name']),
  person('Matteo', '+39 320 000 0007', [tasks.oven, 'name']),
  person('Grace', '+1 212 555 0107', [tasks.goal, 'never'], [tasks.follow, 'never']),
  person('Kavya', '+91 90000 00007', [tasks.look, 'does']),
  person('Chiara', '+39 320 000 0008', [tasks.oven, 'does']),
  person('Isha', '+91 90000 00008', [tasks.evening, 'late']),
  person('Paolo', '+39 320 000 0009', [tasks.topping, 'name'], [tasks.menu, 'never']),
  person('Anna', '+39 320 000 0010', [tasks.topping, 'never'], [tasks.mention, 'does']),
];

/** They claim while the Gym's access is broken. */
export const latecomers: readonly Person[] = [
  person('Zoe', '+1 212 555 0106', [tasks.goal, 'does']),
  person('Owen', '+1 212 555 0108', [tasks.goal, 'does']),
];

/** How a claim has to end, or to stand while its time is not over. */
export function endOf(task: Task, deed: Deed): 'verified' | 'failed' | 'pending' {
  if (deed !== 'never') return 'verified';
  // What nothing proves is decided by a person; what has a short deadline, by that.
  return task.kind === 'x_follow' || task.verifyWithinSeconds !== undefined ? 'failed' : 'pending';
}
