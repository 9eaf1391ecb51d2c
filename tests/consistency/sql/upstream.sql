-- The other database, from which logical replication brings rows.

CREATE TABLE mirrored (id bigserial, k int, v bigint);
CREATE TABLE followed (id bigserial, k int, v bigint);
CREATE TABLE parcels (id bigserial, k int, part int, v bigint);
CREATE TABLE arrived (n bigint);
ALTER TABLE mirrored REPLICA IDENTITY FULL;
ALTER TABLE followed REPLICA IDENTITY FULL;
ALTER TABLE parcels REPLICA IDENTITY FULL;
ALTER TABLE arrived REPLICA IDENTITY FULL;
CREATE PUBLICATION upstream FOR ALL TABLES;
