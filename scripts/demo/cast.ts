// Who plays in the demo. The tenants, campaigns and tasks are those of supabase/seed.sql; the people are made up, and
// so are their addresses and numbers (reserved domain, numbers that nobody has).

export const tenants = {
  'pizza-shop': { id: '10000000-0000-4000-8000-000000000001', name: 'Pizza Shop', owner: 'Rosa' },
  gym: { id: '10000000-0000-4000-8000-000000000002', name: 'Gym', owner: 'Frank' },
  salon: { id: '10000000-0000-4000-8000-000000000003', name: 'Salon', owner: 'Lakshmi' },
} as const;
export type Slug = keyof typeof tenants;
export const slugs: readonly Slug[] = ['pizza-shop', 'gym', 'salon'];

export interface Task {
  tenant: Slug;
  campaignId: string;
  id: string;
  title: string;
  on: 'facebook' | 'instagram';
  /** The account that the post belongs to, and the post, in the simulated Meta. */
  accountId: string;
  postId: string;
  /** A claim must be proven within this time; the seed's 24 hours where nothing is said. */
  verifyWithinSeconds?: number;
}

const pizza = { tenant: 'pizza-shop', on: 'facebook', accountId: '100000000000001' } as const;
const salon = { tenant: 'salon', accountId: '17841400000000003', on: 'instagram' } as const;

export const tasks = {
  summer: {
    ...pizza,
    campaignId: '20000000-0000-4000-8000-000000000011',
    id: '30000000-0000-4000-8000-000000000111',
    title: 'Comment on our summer post',
    postId: '100000000000001_2001',
  },
  oven: {
    ...pizza,
    on: 'instagram',
    accountId: '17841400000000001',
    campaignId: '20000000-0000-4000-8000-000000000011',
    id: '30000000-0000-4000-8000-000000000112',
    title: 'Comment on our oven video',
    postId: '17900000000000101',
    verifyWithinSeconds: 8,
  },
  topping: {
    ...pizza,
    campaignId: '20000000-0000-4000-8000-000000000012',
    id: '30000000-0000-4000-8000-000000000121',
    title: 'Tell us your Tuesday topping',
    postId: '100000000000001_2002',
  },
  goal: {
    tenant: 'gym',
    on: 'instagram',
    accountId: '17841400000000002',
    campaignId: '20000000-0000-4000-8000-000000000021',
    id: '30000000-0000-4000-8000-000000000211',
    title: 'Comment with your goal',
    postId: '17900000000000201',
    verifyWithinSeconds: 8,
  },
  look: {
    ...salon,
    campaignId: '20000000-0000-4000-8000-000000000031',
    id: '30000000-0000-4000-8000-000000000311',
    title: 'Comment on our new look',
    postId: '17900000000000301',
    verifyWithinSeconds: 8,
  },
  evening: {
    ...salon,
    on: 'facebook',
    accountId: '100000000000003',
    campaignId: '20000000-0000-4000-8000-000000000032',
    id: '30000000-0000-4000-8000-000000000321',
    title: 'Which evening suits you?',
    postId: '100000000000003_2001',
  },
} as const satisfies Record<string, Task>;

/** The campaign of the Salon whose hours are over, and its zone. */
export const closedCampaign = {
  id: tasks.evening.campaignId,
  name: 'After hours',
  timeZone: 'Asia/Kolkata',
} as const;

/**
 * What somebody does about a claim: comments with the code of the claim, comments under the own name before claiming,
 * comments only after the claim was looked at once, or never comments.
 */
export type Deed = 'code' | 'name' | 'late' | 'never';

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
  { ...person('Giulia', '+39 320 000 0001', [tasks.summer, 'code'], [tasks.oven, 'code']), greedy: true },
  person('Noah', '+1 212 555 0101', [tasks.goal, 'code']),
  person('Priya', '+91 90000 00001', [tasks.look, 'code']),
  person('Marco', '+39 320 000 0002', [tasks.summer, 'name']),
  person('Ava', '+1 212 555 0102', [tasks.goal, 'name']),
  person('Meera', '+91 90000 00002', [tasks.evening, 'code']),
  person('Davide', '+39 320 000 0003', [tasks.oven, 'never']),
  person('Ethan', '+1 212 555 0103', [tasks.goal, 'never']),
  person('Rohan', '+91 90000 00003', [tasks.look, 'never']),
  person('Sofia', '+39 320 000 0004', [tasks.summer, 'code'], [tasks.topping, 'code']),
  person('Mia', '+1 212 555 0104', [tasks.goal, 'code']),
  person('Arjun', '+91 90000 00004', [tasks.look, 'name']),
  person('Luca', '+39 320 000 0005', [tasks.summer, 'late']),
  person('Liam', '+1 212 555 0105', [tasks.goal, 'name']),
  person('Nikhil', '+91 90000 00005', [tasks.evening, 'never']),
  person('Elena', '+39 320 000 0006', [tasks.summer, 'never']),
  person('Zoe', '+1 212 555 0106', [tasks.goal, 'code']),
  person('Dev', '+91 90000 00006', [tasks.evening, 'name']),
  person('Matteo', '+39 320 000 0007', [tasks.oven, 'name']),
  person('Grace', '+1 212 555 0107', [tasks.goal, 'never']),
  person('Kavya', '+91 90000 00007', [tasks.look, 'code']),
  person('Chiara', '+39 320 000 0008', [tasks.oven, 'code']),
  person('Owen', '+1 212 555 0108', [tasks.goal, 'code']),
  person('Isha', '+91 90000 00008', [tasks.evening, 'late']),
  person('Paolo', '+39 320 000 0009', [tasks.topping, 'name']),
  person('Anna', '+39 320 000 0010', [tasks.topping, 'never']),
];
