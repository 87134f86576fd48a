/* SPDX-License-Identifier: MIT */
/* example.hpp - the declarations that the C++ files with mistakes use */
#include <utility>

#include <pkeyguard/scopes.hpp>

struct secret {
    int number;
};

extern pkeyguard::region vault;

void use(int value);
