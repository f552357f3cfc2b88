-- Which tasks of a type failed is what is asked first when something is wrong. Without this, it goes through those of all
-- types. Tasks that succeed pay nothing for it. State and type are one: of three columns, Postgres would not stop at an id.

create index gf_history_state_type on gf_history ((state || '.' || type), id) where state <> 'succeeded';
