/* SPDX-License-Identifier: MIT */
/* end.h - see begin.h */
#ifndef PKEYGUARD_DECLARATIONS_ONLY
#pragma GCC visibility pop
#elif defined(PKEYGUARD_NO_ATTRIBUTES_)
#undef __attribute__
#undef PKEYGUARD_NO_ATTRIBUTES_
#endif
#ifdef __cplusplus
}
#endif
