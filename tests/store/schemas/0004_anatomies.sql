CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE TABLE models (
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL, revision TEXT, path TEXT,
    facts TEXT NOT NULL, first_opened TEXT NOT NULL, last_opened TEXT NOT NULL
);
CREATE TABLE files (
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    inode TEXT NOT NULL,  -- text: some file systems number beyond SQLite's signed 64 bits
    sha256 TEXT NOT NULL
);
CREATE TABLE runs (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, method_version TEXT NOT NULL,
    model_fingerprint TEXT NOT NULL, model_name TEXT NOT NULL, dtype TEXT NOT NULL, device TEXT NOT NULL,
    parameters TEXT NOT NULL, versions TEXT NOT NULL, seed INTEGER, units INTEGER NOT NULL,
    created_at TEXT NOT NULL, finished_at TEXT, seconds REAL NOT NULL DEFAULT 0
);
CREATE TABLE units (
    run_key TEXT NOT NULL REFERENCES runs (key) ON DELETE CASCADE, idx INTEGER NOT NULL,
    name TEXT NOT NULL, seconds REAL NOT NULL, created_at TEXT NOT NULL,
    bytes INTEGER NOT NULL,  -- payload and arrays together, so that sizes are read without them
    payload TEXT, payload_crc32 INTEGER, PRIMARY KEY (run_key, idx)
);
CREATE TABLE arrays (
    run_key TEXT NOT NULL, unit_idx INTEGER NOT NULL, name TEXT NOT NULL,
    dtype TEXT NOT NULL, shape TEXT NOT NULL, data BLOB NOT NULL, crc32 INTEGER,
    PRIMARY KEY (run_key, unit_idx, name),
    FOREIGN KEY (run_key, unit_idx) REFERENCES units (run_key, idx) ON DELETE CASCADE
);
CREATE TABLE findings (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, note TEXT NOT NULL,
    tags TEXT NOT NULL, model_name TEXT NOT NULL, model_fingerprint TEXT NOT NULL, kind TEXT NOT NULL,
    evidence TEXT NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE VIRTUAL TABLE findings_fts USING fts5 (
    title, note, tags, evidence, tokenize = "unicode61 remove_diacritics 2 categories 'L* N* Co So'"
);
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, kind TEXT NOT NULL, title TEXT NOT NULL,
    "order" TEXT NOT NULL, run_key TEXT,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL, unit TEXT NOT NULL,
    began_with INTEGER NOT NULL DEFAULT 0, cancel_requested INTEGER NOT NULL DEFAULT 0, failure TEXT,
    owner_host TEXT NOT NULL, owner_pid INTEGER NOT NULL, owner_started REAL NOT NULL,
    created_at TEXT NOT NULL, started_at TEXT, finished_at TEXT, beat_at TEXT NOT NULL
);
CREATE TABLE anatomies (key TEXT PRIMARY KEY, document TEXT NOT NULL);
INSERT INTO _sqlite_migrations ("rowid", "id", "migration_set", "name", "applied_at") VALUES (1, 1, 'headlamp', '0001_first_schema', '2026-01-01 00:00:00.000000+00:00');
INSERT INTO _sqlite_migrations ("rowid", "id", "migration_set", "name", "applied_at") VALUES (2, 2, 'headlamp', '0002_jobs', '2026-01-01 00:00:00.000000+00:00');
INSERT INTO _sqlite_migrations ("rowid", "id", "migration_set", "name", "applied_at") VALUES (3, 3, 'headlamp', '0003_checksums', '2026-01-01 00:00:00.000000+00:00');
INSERT INTO _sqlite_migrations ("rowid", "id", "migration_set", "name", "applied_at") VALUES (4, 4, 'headlamp', '0004_anatomies', '2026-01-01 00:00:00.000000+00:00');
INSERT INTO models ("rowid", "fingerprint", "name", "revision", "path", "facts", "first_opened", "last_opened") VALUES (1, 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'demo/base', NULL, '/é', '{"layers":2}', '2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:00.000+00:00');
INSERT INTO files ("rowid", "path", "size", "mtime_ns", "inode", "sha256") VALUES (1, '/models/a.safetensors', 10, 1700000000000000000, '18446744073709551615', 'abababababababababababababababababababababababababababababababab');
INSERT INTO runs ("rowid", "key", "kind", "method_version", "model_fingerprint", "model_name", "dtype", "device", "parameters", "versions", "seed", "units", "created_at", "finished_at", "seconds") VALUES (1, '3a49396e2accb56aa154faee1451c205', 'decode', '1', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'demo/base', 'float32', 'cpu', '{"site":"up","top_k":10}', '{"torch":"2.13.0"}', NULL, 1, '2026-01-01T00:00:01.000+00:00', '2026-01-01T00:00:03.000+00:00', 0.5);
INSERT INTO runs ("rowid", "key", "kind", "method_version", "model_fingerprint", "model_name", "dtype", "device", "parameters", "versions", "seed", "units", "created_at", "finished_at", "seconds") VALUES (2, 'acca1fde5b58ba8ebc73041c02540f55', 'find', '2', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'demo/base', 'float32', 'cpu', '{"words":["Paris","\ud83d\uddfc"]}', '{}', -7, 3, '2026-01-01T00:00:04.000+00:00', NULL, 1.0);
INSERT INTO units ("rowid", "run_key", "idx", "name", "seconds", "created_at", "bytes", "payload", "payload_crc32") VALUES (1, '3a49396e2accb56aa154faee1451c205', 0, 'block 0', 0.5, '2026-01-01T00:00:02.000+00:00', 48, NULL, NULL);
INSERT INTO units ("rowid", "run_key", "idx", "name", "seconds", "created_at", "bytes", "payload", "payload_crc32") VALUES (2, 'acca1fde5b58ba8ebc73041c02540f55', 0, 'a ''quoted'' name', 1.0, '2026-01-01T00:00:05.000+00:00', 41, '{"text":"nul \u0000 \u00e9"}', 3370575566);
INSERT INTO units ("rowid", "run_key", "idx", "name", "seconds", "created_at", "bytes", "payload", "payload_crc32") VALUES (3, 'acca1fde5b58ba8ebc73041c02540f55', 2, 'block 2', 0.0, '2026-01-01T00:00:07.000+00:00', 12, '[1,null,0.1]', 3703969832);
INSERT INTO arrays ("rowid", "run_key", "unit_idx", "name", "dtype", "shape", "data", "crc32") VALUES (1, '3a49396e2accb56aa154faee1451c205', 0, 'ids', 'int64', '[2,3]', X'000000000000000001000000000000000200000000000000030000000000000004000000000000000500000000000000', 1256583416);
INSERT INTO arrays ("rowid", "run_key", "unit_idx", "name", "dtype", "shape", "data", "crc32") VALUES (2, 'acca1fde5b58ba8ebc73041c02540f55', 0, 'x', 'float32', '[3]', X'0000C07F0000008001000000', 1067327379);
INSERT INTO arrays ("rowid", "run_key", "unit_idx", "name", "dtype", "shape", "data", "crc32") VALUES (3, 'acca1fde5b58ba8ebc73041c02540f55', 0, 'none', 'float64', '[0,3]', X'', 2874200810);
INSERT INTO arrays ("rowid", "run_key", "unit_idx", "name", "dtype", "shape", "data", "crc32") VALUES (4, 'acca1fde5b58ba8ebc73041c02540f55', 0, 'one', 'bool', '[]', X'01', 2545622656);
INSERT INTO findings ("rowid", "seq", "id", "title", "note", "tags", "model_name", "model_fingerprint", "kind", "evidence", "created_at", "updated_at") VALUES (1, 1, '00000000000000000000000000000000', 'A capital neuron', 'a note', '["city"]', 'demo/base', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'generation', '{"prompt":"The capital of France is","seed":9223372036854775808}', '2026-01-01T00:00:00.000+00:00', '2026-01-01T00:00:00.000+00:00');
INSERT INTO findings ("rowid", "seq", "id", "title", "note", "tags", "model_name", "model_fingerprint", "kind", "evidence", "created_at", "updated_at") VALUES (2, 2, '11111111111111111111111111111111', 'Ein Turm 🗼', 'a note', '["city"]', 'demo/base', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'generation', '{"prompt":"The capital of France is","seed":9223372036854775808}', '2026-01-02T00:00:00.000+00:00', '2026-01-02T00:00:00.000+00:00');
INSERT INTO findings_fts ("rowid", "title", "note", "tags", "evidence") VALUES (1, 'A capital neuron', 'a note', 'city', 'The capital of France is');
INSERT INTO findings_fts ("rowid", "title", "note", "tags", "evidence") VALUES (2, 'Ein Turm 🗼', 'a note', 'city', 'The capital of France is');
INSERT INTO jobs ("rowid", "id", "key", "kind", "title", "order", "run_key", "state", "done", "total", "unit", "began_with", "cancel_requested", "failure", "owner_host", "owner_pid", "owner_started", "created_at", "started_at", "finished_at", "beat_at") VALUES (1, 1, 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk', 'find', 'Find neurons', '{"words":["Paris"]}', NULL, 'failed', 0, 3, 'blocks', 0, 0, '{"name":"StoreFull","message":"No room","cause":"\u00e9"}', 'desk', 4711, 1767225600.25, '2026-01-01T00:00:09.000+00:00', '2026-01-01T00:00:10.000+00:00', '2026-01-01T00:00:11.000+00:00', '2026-01-01T00:00:11.000+00:00');
INSERT INTO jobs ("rowid", "id", "key", "kind", "title", "order", "run_key", "state", "done", "total", "unit", "began_with", "cancel_requested", "failure", "owner_host", "owner_pid", "owner_started", "created_at", "started_at", "finished_at", "beat_at") VALUES (2, 2, 'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk', 'find', 'Find neurons', '{"words":["Paris"]}', 'acca1fde5b58ba8ebc73041c02540f55', 'running', 2, 3, 'blocks', 0, 0, NULL, 'desk', 4711, 1767225600.25, '2026-01-01T00:00:12.000+00:00', '2026-01-01T00:00:13.000+00:00', NULL, '2026-01-01T00:00:14.000+00:00');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX runs_created ON runs (created_at);
CREATE INDEX runs_kind ON runs (kind, created_at);
CREATE INDEX runs_model ON runs (model_fingerprint, created_at);
CREATE INDEX findings_created ON findings (created_at);
CREATE TRIGGER findings_added AFTER INSERT ON findings BEGIN
    INSERT INTO findings_fts (rowid, title, note, tags, evidence) VALUES (
        new.seq, new.title, new.note,
        (SELECT group_concat(value, ' ') FROM json_each(new.tags)),
        (SELECT group_concat(atom, ' ') FROM json_tree(new.evidence) WHERE type = 'text')
    );
END;
CREATE TRIGGER findings_edited AFTER UPDATE OF title, note, tags ON findings BEGIN
    UPDATE findings_fts SET title = new.title, note = new.note,
        tags = (SELECT group_concat(value, ' ') FROM json_each(new.tags)) WHERE rowid = old.seq;
END;
CREATE TRIGGER findings_deleted AFTER DELETE ON findings BEGIN
    DELETE FROM findings_fts WHERE rowid = old.seq;
END;
CREATE TRIGGER findings_frozen
BEFORE UPDATE OF seq, id, model_name, model_fingerprint, kind, evidence, created_at ON findings BEGIN
    SELECT RAISE(ABORT, 'the evidence of a finding never changes');
END;
CREATE UNIQUE INDEX jobs_one_active ON jobs (key) WHERE state IN ('queued', 'running');
