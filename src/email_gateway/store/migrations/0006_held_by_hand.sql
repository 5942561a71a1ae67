-- What it takes to hold by hand, and to end mail when its time runs out. Only additions: processes of the
-- release before run on, follow holds of their own route, and leave the end of mail to its claim.

-- Who holds by hand, and why. A hold by hand may stand for every route ('*'). What replies said of a lane
-- before stays in its row, and counts again once the hold by hand is released.
ALTER TABLE pace ADD COLUMN actor text;
ALTER TABLE pace ADD COLUMN note text;

-- When to look whether a waiting delivery's time has run out: the message's `expires_at` decides, and one index
-- finds whom to ask. Without one (written by a process of the release before) a delivery ends when it is
-- claimed, as before.
ALTER TABLE delivery ADD COLUMN expires_at timestamptz;
UPDATE delivery SET expires_at = message.expires_at FROM message
WHERE delivery.state IN ('queued', 'sending')
  AND message.tenant_id = delivery.tenant_id AND message.message_id = delivery.message_id;
CREATE INDEX delivery_expiry ON delivery (expires_at) WHERE state = 'queued';
