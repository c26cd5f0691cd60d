COPY countries FROM '/srv/countries.csv';
