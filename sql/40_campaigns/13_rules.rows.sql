-- The rules. A changed text is a new version, never an edit: acknowledgements refer to what was read.
insert into public.rules (rule, version, text) values
  ('rewarded_engagement', 1,
    'Meta allows rewards for few actions, and following, liking and sharing are not among them. A task that rewards a follow, a like or a '
    'repost may cost you features or the account, and nothing proves that it was done. You decide to offer it all the same, at your own risk, '
    'and you offer another way to take part.'),
  ('unofficial_gateway', 1,
    'This way of sending works through WhatsApp Web and not through WhatsApp''s own interface. WhatsApp may block the number without notice. '
    'You write only to people who agreed to it, and you know that official accounts are the safe way.'),
  ('promotion_release', 1,
    'Your promotion keeps the law where it is offered. Its official rules release Facebook, Instagram and the other platforms completely and '
    'say that none of them sponsors, endorses or administers it. It asks nobody to share on a personal timeline or to tag friends.')
on conflict (rule, version) do nothing;
