-- One row: what nodes have to agree on.
CREATE TABLE shoal_schema (
    one     bool PRIMARY KEY DEFAULT true CHECK (one),
    version int4 NOT NULL,
    width   int8 NOT NULL,           -- of a partition, ns
    origin  int8 NOT NULL,           -- number of the first partition; what is older shares one
    pruned  int8 NOT NULL DEFAULT 0  -- when a node last saw to retention, Unix ns
);

-- Every shard that ever had a message, and how far it is known to be put.
CREATE TABLE shoal_shards (
    shard int4 PRIMARY KEY,          -- cluster << 16 | index
    mark  int8 NOT NULL DEFAULT 0    -- Unix ns
);

CREATE TABLE shoal_messages (
    ts      int8  NOT NULL,          -- Unix ns
    shard   int4  NOT NULL,
    size    int4  NOT NULL,          -- of message
    hash    bytea NOT NULL,          -- deterministic message hash
    topic   bytea NOT NULL,          -- content topic, or 0xff and its SHA-256 if it is long
    message bytea NOT NULL,          -- the encoded WakuMessage
    PRIMARY KEY (shard, ts, hash) INCLUDE (size)
) PARTITION BY RANGE (ts);

ALTER TABLE shoal_messages
    ALTER hash    SET STORAGE PLAIN,
    ALTER topic   SET STORAGE PLAIN,
    ALTER message SET STORAGE EXTERNAL;  -- encrypted: compressing it is in vain

CREATE INDEX ON shoal_messages (shard, topic, ts, hash);

-- Where a hash is, or was. Outlives its messages.
CREATE TABLE shoal_times (
    head  uuid NOT NULL,             -- of the hash, in two halves
    tail  uuid NOT NULL,
    ts    int8 NOT NULL,
    shard int4 NOT NULL
) PARTITION BY RANGE (ts);

CREATE INDEX ON shoal_times (head);

-- Since when a partition of shoal_times has had no messages.
CREATE TABLE shoal_emptied (
    name  text PRIMARY KEY,
    since int8 NOT NULL              -- Unix ns
);
