-- sessile, file format 2
--
-- This is the public contract of the data file. The login system writes it with plain SQL; sessile
-- reads it and answers one question from it: does this user have an active session right now?
--
-- Make a file with `sessile init --database sessions.db`, or with any sqlite3 from 3.37 on:
--
--     sqlite3 -bail sessions.db < schema.sql
--
-- Instants are whole milliseconds since 1970-01-01T00:00:00Z, as INTEGER. In SQL, now is
--
--     CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)
--
-- (julianday('now') is exact to the millisecond; the rounding takes the floating point error out).
--
-- A session is active while  revoked_at IS NULL  AND  now < expires_at
--                            AND  (idle_expires_at IS NULL OR now < idle_expires_at).
-- Equality is inactive. A policy in the configuration of sessile can end sessions earlier, by the age of
-- authenticated_at and of last_active_at; it never lets one live longer than the file says.
--
-- A commit is seen by the next request. Keep the journal mode at WAL, so that readers and writers do not
-- wait for each other, and never rename, copy or delete the file or its -wal and -shm under a running
-- server: to replace the contents, write into the live file, in one transaction.
--
-- How to write, with :now bound to the expression above or to your own clock:
--
--   Login, or any later change of the session (an ended session stays ended):
--
--     INSERT INTO session (tenant_id, id, user_id, created_at, authenticated_at, last_active_at,
--                          expires_at, idle_expires_at, amr, ip)
--     VALUES ('tnt_xyz789', 'sess_abc123', 'usr_abc123', :now, :now, :now,
--             :now + 30 * 86400000, :now + 30 * 60000, 'password,totp', '192.168.1.1')
--     ON CONFLICT (tenant_id, id) DO UPDATE SET
--         authenticated_at = excluded.authenticated_at,
--         last_active_at   = excluded.last_active_at,
--         expires_at       = excluded.expires_at,
--         idle_expires_at  = excluded.idle_expires_at,
--         amr              = excluded.amr,
--         ip               = excluded.ip
--     WHERE session.revoked_at IS NULL AND session.user_id = excluded.user_id;
--
--   Activity, which moves the idle deadline:
--
--     UPDATE session SET last_active_at = :now, idle_expires_at = :now + 30 * 60000
--     WHERE tenant_id = 'tnt_xyz789' AND id = 'sess_abc123' AND revoked_at IS NULL;
--
--   Logout of one session, and of all sessions of a user. Use PRAGMA synchronous = FULL on the connection
--   that revokes: with NORMAL a power cut can take the last commits back, and the sessions with them.
--
--     UPDATE session SET revoked_at = :now, revoke_reason = 'logout'
--     WHERE tenant_id = 'tnt_xyz789' AND id = 'sess_abc123' AND revoked_at IS NULL;
--
--     UPDATE session SET revoked_at = :now, revoke_reason = 'password changed'
--     WHERE tenant_id = 'tnt_xyz789' AND user_id = 'usr_abc123' AND revoked_at IS NULL;
--
-- Other tables, and further indexes, are yours to add. The objects below are compared with this text, comments
-- and white space aside, before an answer is given from the file or a command writes to it: leave them as they are.
-- The tables whose names begin with sessile_ are written by sessile alone, and no answer needs them. One of them,
-- sessile_heartbeat, is made by `sessile heartbeat` where that is used: it holds the instant up to which everything
-- that was committed is in the file, so that a copy tells how old it is.

PRAGMA journal_mode = WAL;

BEGIN IMMEDIATE;

PRAGMA application_id = 1397052236; -- 0x5345534C, "SESL"
PRAGMA user_version = 2;            -- the file format

CREATE TABLE session (
    tenant_id        TEXT    NOT NULL, -- who owns the row; on the wire X-Tenant-ID: visible ASCII
    id               TEXT    NOT NULL, -- the session, unique within its tenant
    user_id          TEXT    NOT NULL, -- compared byte for byte: no folding of case, no normalisation

    created_at       INTEGER NOT NULL, -- milliseconds since the Unix epoch, like every instant here
    authenticated_at INTEGER,          -- last authentication; NULL: created_at stands in
    last_active_at   INTEGER,          -- last activity; NULL: authenticated_at, then created_at
    expires_at       INTEGER NOT NULL, -- absolute deadline
    idle_expires_at  INTEGER,          -- idle deadline; NULL: none
    revoked_at       INTEGER,          -- the end by logout or revocation; NULL: not revoked
    revoke_reason    TEXT,

    amr              TEXT,             -- what no answer needs: authentication methods (RFC 8176), comma-separated
    device_id        TEXT,
    device_type      TEXT,
    ip               TEXT,
    user_agent       TEXT,
    geoip            TEXT,

    PRIMARY KEY (tenant_id, id),

    CONSTRAINT tenant_id_is_1_to_128_characters CHECK (length(tenant_id) BETWEEN 1 AND 128),
    CONSTRAINT id_is_1_to_256_characters        CHECK (length(id)        BETWEEN 1 AND 256),
    CONSTRAINT user_id_is_1_to_256_characters   CHECK (length(user_id)   BETWEEN 1 AND 256),

    CONSTRAINT created_at_is_not_negative       CHECK (created_at       >= 0),
    CONSTRAINT authenticated_at_is_not_negative CHECK (authenticated_at >= 0),
    CONSTRAINT last_active_at_is_not_negative   CHECK (last_active_at   >= 0),
    CONSTRAINT expires_at_is_not_negative       CHECK (expires_at       >= 0),
    CONSTRAINT idle_expires_at_is_not_negative  CHECK (idle_expires_at  >= 0),
    CONSTRAINT revoked_at_is_not_negative       CHECK (revoked_at       >= 0),

    -- No other pair of instants is ordered and none is compared with the clock: real data breaks such rules.
    CONSTRAINT expires_at_is_not_before_created_at CHECK (expires_at >= created_at)
) STRICT;

-- Answers the count alone: every column of the predicate is in it, revoked_at included, so that no row of
-- the table is read. Revoked sessions are left out, which keeps it small. The user comes before the tenant because
-- it tells two entries apart at the first comparison, where tenants are few and mostly equal.
CREATE INDEX session_live ON session (
    user_id, tenant_id, expires_at, idle_expires_at, authenticated_at, last_active_at, created_at, revoked_at
) WHERE revoked_at IS NULL;

-- What the commands of sessile changed, in the transaction that changed it. Never a user's id: an erasure
-- would have to reach it.
CREATE TABLE sessile_audit (
    id        INTEGER NOT NULL PRIMARY KEY,
    at        INTEGER NOT NULL, -- milliseconds, by the clock of the machine that ran the command
    os_user   TEXT    NOT NULL, -- who ran it
    command   TEXT    NOT NULL, -- import, revoke, purge, delete or restore
    scope     TEXT    NOT NULL, -- what it was asked to change, in words
    tenant_id TEXT,             -- of which tenant; NULL: of all, or of those in an input
    sessions  INTEGER NOT NULL  -- how many sessions it changed
) STRICT;

-- How far an import in parts has come: `sessile import --resume` goes on behind it.
CREATE TABLE sessile_import (
    input      TEXT    NOT NULL PRIMARY KEY, -- the absolute path of the input, or -
    started_at INTEGER NOT NULL, -- the import's now, from which relative instants count
    records    INTEGER NOT NULL, -- how many records of the input, from its beginning, are done with
    digest     TEXT    NOT NULL  -- SHA-256 over their tenants and ids, by which the input is known again
) STRICT;

COMMIT;
