-- The schema that everything lives in, goose's own table too: hence before the migrations.
CREATE SCHEMA scanlogin;
