-- Large messages weigh on nobody else: lists read a summary of them, and they are written piece by piece.
-- Only additions. A process of the release before can neither list nor send what has a second piece, so workers
-- are brought to this release before the api processes are.

-- What a list shows of a message whose content is large: the content without its bodies.
ALTER TABLE message ADD COLUMN sealed_summary bytea
    CONSTRAINT message_summary_is_sealed CHECK (get_byte(sealed_summary, 0) = 225 AND octet_length(sealed_summary) > 58);

-- What a sealed value holds beyond its first piece, which stands in the value's own column. `row_id` is the id that
-- the value is bound to: of the attachment, or of the message for its content. One commit after the other waits for
-- the log to reach the disk; a value of 29 MB that is written at once holds them all up for as long as that takes.
CREATE TABLE sealed_piece (
    tenant_id  uuid NOT NULL,
    message_id uuid NOT NULL,
    row_id     uuid NOT NULL,
    number     smallint NOT NULL,
    piece      bytea NOT NULL,
    PRIMARY KEY (tenant_id, message_id, row_id, number)
);
ALTER TABLE sealed_piece ALTER COLUMN piece SET STORAGE EXTERNAL;

-- A value is in pieces when the first has this size, and whole when it is shorter. PostgreSQL puts this function's
-- body in the place of its call; the next one it has to call, so a walk over many values asks this one first.
CREATE FUNCTION is_in_pieces(first_piece bytea) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN octet_length(first_piece) = 262144;

CREATE FUNCTION whole_value(tenant uuid, message uuid, bound_to uuid, first_piece bytea) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN first_piece || coalesce((
        SELECT string_agg(piece, ''::bytea ORDER BY number) FROM sealed_piece
        WHERE tenant_id = tenant AND message_id = message AND row_id = bound_to), ''::bytea);

GRANT SELECT, INSERT, DELETE ON sealed_piece TO email_gateway_service;
GRANT SELECT ON sealed_piece TO email_gateway_tenant;
