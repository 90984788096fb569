/*
 * The local time zone as TZ has it in POSIX's form ("CET-1CEST,M3.5.0,M10.5.0/3"), for a mountd,
 * which sees no files: the last line of the zone's file (RFC 8536, section 3.3).
 */
#ifndef BAZIL_SUPERVISOR_ZONE_H
#define BAZIL_SUPERVISOR_ZONE_H

#define ZONE_MAX 65

/* Empty when it is not known. */
void zone_find(char ret[ZONE_MAX]);

#endif
