/*
 * Length padding. A sealed object shows its length; padding rounds lengths so that few differ.
 *
 * Padmé (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and Communication with
 * PURBs", PETS 2019): with E = floor(log2 L) and S = floor(log2 E) + 1, round L up to a multiple
 * of 2^(E - S). It leaks O(log log L) bits and costs at most 12 % (3.1 % from 64 KiB to 4 GiB),
 * half of that on average. Sizes are in bytes.
 */
#ifndef BAZIL_CAS_PAD_H
#define BAZIL_CAS_PAD_H

#include <stddef.h>

/* Objects are never smaller than this before their header and tag. */
#define CAS_PAD_MIN 256

/* len <= SIZE_MAX / 2. 0 and 1 stay as they are. */
size_t cas_padme(size_t len);

/* As cas_padme(), and at least CAS_PAD_MIN. */
size_t cas_pad_object(size_t len);

#endif
