#pragma once

#include <optim/adadelta.h>
#include <optim/adagrad.h>
#include <optim/adam.h>
#include <optim/clip.h>
#include <optim/nadam.h>
#include <optim/optimizer.h>
#include <optim/rmsprop.h>
#include <optim/sgd.h>
