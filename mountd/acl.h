/*
 * The values of system.posix_acl_access and system.posix_acl_default, as the kernel writes them
 * (linux/posix_acl_xattr.h): u32 version 2, then entries of u16 tag, u16 permissions, u32 id,
 * little-endian and sorted. The rules are those of POSIX 1003.1e draft 17 as Linux follows them.
 *
 * The kernel checks rights by these lists (FUSE_POSIX_ACL); what it leaves to a file system is
 * here: how a list and a mode hang together and what a new file inherits. The permission bits of
 * the mode are the truth. They stand for the entries of the owner, of the mask (or of the group,
 * without a mask) and of others; only the rest of a stored list counts, and whoever reads it gets
 * these entries from the mode. So chmod changes one record, and a chmod here and a setfacl on a
 * peer meet in a list that is sound.
 *
 * Pure: no I/O, no state. Values may come from a peer: acl_is_sound() before anything else.
 */
#ifndef BAZIL_MOUNTD_ACL_H
#define BAZIL_MOUNTD_ACL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"
#define ACL_MAX	    4096u /* bytes that the kernel takes */

/* Whether this is the name of a list. */
bool acl_is_name(const char *name);
/* Of known tags, with exactly one entry each for owner, group and others. */
bool acl_is_sound(const uint8_t *value, size_t len);
/* The nine permission bits that the list stands for. */
uint32_t acl_mode(const uint8_t *value, size_t len);
/* Whether the nine bits say it all: such a list is not kept. */
bool acl_is_mode(const uint8_t *value, size_t len);
/* Puts the nine bits of mode into the list. */
void acl_set_mode(uint8_t *value, size_t len, uint32_t mode);

#endif
