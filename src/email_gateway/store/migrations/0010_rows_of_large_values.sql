-- What a large value holds beyond its first piece is written by COPY, in rows of one page each: COPY writes out what it
-- filled through a small ring of buffers, and extends the table without filling it with zeros first. Values of 256 KiB
-- in TOAST left up to all of shared_buffers for the sync of a checkpoint, behind which every commit waited for 100 ms.
-- A row stays in its page; rows of 256 KiB, as a process before this release writes them, still go to TOAST and are read
-- as they were.
ALTER TABLE sealed_piece ALTER COLUMN piece SET STORAGE MAIN;
