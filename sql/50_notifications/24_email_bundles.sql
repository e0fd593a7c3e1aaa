-- Bundles: e-mails of one tenant that leave in one call. Resend takes up to 100 at once, with one idempotency key for all of them: the same
-- key with the same content is answered as before and sends nothing; with another content it is refused (409) once it was accepted.
--
-- What a call consists of is written down before it leaves. Whoever claims any of its mails again, after a lost answer, a crash or a lease
-- that ran out, makes the same call with the same key, whichever part of the mails is claimed; the answer counts for all of them.
--
-- A mail that must not leave any more (consent withdrawn, campaign over) or not now (its hours) while its bundle is in doubt is left out,
-- and the rest goes with the same key as another *version*. That cannot send anything twice, since a key is bound to one content, and it
-- sends nothing that was cancelled. Either Resend takes it: then no earlier version had arrived, and the mails that were left out were not
-- sent. Or it says 409: then another version had arrived, and a mail that was in every other version was sent; of one that was only in
-- some of them nobody knows. Versions only become smaller, so one that is refused for a bad mail says so of all before it.

create table private.email_bundles (
  tenant_id uuid not null,
  id uuid not null default gen_random_uuid(),
  sender text not null,
  credential_source text not null,
  credential_fingerprint text not null,
  calls integer not null default 0,
  versions integer not null default 1,
  request uuid,
  lost_reason text,
  created_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, id),
  constraint email_bundles_tenant_fkey foreign key (tenant_id) references public.tenants (id) on delete cascade,
  constraint sender_is_short check (char_length(sender) between 1 and 320)
);

create index email_bundles_created_at_idx on private.email_bundles (created_at);

alter table private.email_bundles enable row level security;

comment on table private.email_bundles is
  'E-mails that leave in one call, from before the call until its answer is noted. Its id is the idempotency key; sender and account are frozen with it.';
comment on column private.email_bundles.calls is 'How often a worker set out to make the call. After the first nobody may know what became of it.';
comment on column private.email_bundles.versions is 'How many versions of it were noted: the mails that were in the call, less those that had to be left out.';
comment on column private.email_bundles.request is 'The worker''s own id of its last call of bundle_emails: the same one again is not counted twice.';
comment on column private.email_bundles.lost_reason is 'Why nobody will know what became of it: its mails are not sent again.';

-- A mail is in one bundle at a time.
create table private.bundled_emails (
  tenant_id uuid not null,
  outbox_id uuid not null,
  bundle_id uuid not null,
  place smallint not null,
  versions integer[] not null default '{1}',
  primary key (tenant_id, outbox_id),
  constraint bundled_emails_outbox_fkey foreign key (tenant_id, outbox_id) references public.notification_outbox (tenant_id, id) on delete cascade,
  constraint bundled_emails_bundle_fkey foreign key (tenant_id, bundle_id) references private.email_bundles (tenant_id, id) on delete cascade,
  constraint one_mail_per_place unique (tenant_id, bundle_id, place)
);

alter table private.bundled_emails enable row level security;

comment on table private.bundled_emails is 'The mails of each bundle in their order. The text is in the outbox, where it is frozen; it goes with the mail.';
comment on column private.bundled_emails.versions is 'In which versions of the call the mail was.';
